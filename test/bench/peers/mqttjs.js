// usage: node mqttjs.js HOST PORT CAFILE CERT KEY CLIENT_ID TOPIC MESSAGES SIZE
//
// Publishes with MQTT.js: QoS 1, at most 100 unacknowledged. Ends with 0 when
// every message has its PUBACK.
import { readFileSync } from 'node:fs'
import mqtt from 'mqtt'

const [host, port, ca, cert, key, clientId, topic, messages, size] = process.argv.slice(2)
const payload = Buffer.alloc(Number(size), 'x')
let left = Number(messages)
let unacknowledged = 0

function fail (error) {
  console.error(String(error))
  process.exit(1)
}

const client = mqtt.connect({
  protocol: 'mqtts', host, port: Number(port), clientId, protocolVersion: 5, clean: true, reconnectPeriod: 0,
  ca: readFileSync(ca), cert: readFileSync(cert), key: readFileSync(key), maxVersion: 'TLSv1.2'
})

function acknowledged (error) {
  if (error) fail(error)
  unacknowledged--
  send()
}

function send () {
  while (left > 0 && unacknowledged < 100) {
    left--
    unacknowledged++
    client.publish(topic, payload, { qos: 1 }, acknowledged)
  }
  if (left === 0 && unacknowledged === 0) client.end(false, {}, () => process.exit(0))
}

client.on('error', fail)
client.on('connect', send)
