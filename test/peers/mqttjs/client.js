// usage: node client.js HOST PORT CAFILE CERT KEY CLIENT_ID
//
// An MQTT 5 client on MQTT.js. It subscribes to peer/CLIENT_ID and to its
// shadow's answer, publishes to both with QoS 1, and prints what comes back,
// one line each. It ends with 0 when it got both within 10 s.
import { readFileSync } from 'node:fs'
import mqtt from 'mqtt'

const [host, port, ca, cert, key, clientId] = process.argv.slice(2)
const own = `peer/${clientId}`
const update = `$aws/things/${clientId}/shadow/update`
const expected = new Set([own, `${update}/accepted`])

function end (code, why) {
  if (why) console.log(why)
  process.exit(code)
}
setTimeout(() => end(1, 'nothing more within 10 s'), 10_000)

const client = mqtt.connect({
  protocol: 'mqtts', host, port: Number(port), clientId, protocolVersion: 5, clean: true, reconnectPeriod: 0,
  ca: readFileSync(ca), cert: readFileSync(cert), key: readFileSync(key)
})
client.on('error', error => end(1, `error ${error.message}`))
client.on('close', () => end(1, 'closed'))
client.on('message', (topic, payload, packet) => {
  if (topic === own) {
    console.log('message', payload.toString(), packet.properties.contentType, JSON.stringify(packet.properties.userProperties))
  } else {
    console.log('shadow version', JSON.parse(payload).version)
  }
  expected.delete(topic)
  if (expected.size === 0) end(0)
})
client.on('connect', async connack => {
  console.log('connack', connack.reasonCode, 'receive maximum', connack.properties.receiveMaximum)
  const granted = await client.subscribeAsync([...expected], { qos: 1 })
  console.log('suback', ...granted.map(g => g.qos))
  await client.publishAsync(own, 'hello', { qos: 1, properties: { contentType: 'text/plain', userProperties: { from: 'mqttjs' } } })
  await client.publishAsync(update, JSON.stringify({ state: { reported: { client: 'mqttjs' } } }), { qos: 1 })
})
