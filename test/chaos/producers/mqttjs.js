// usage: node mqttjs.js HOST:PORT NAME MESSAGES RATE PADDING LOG
//
// Publishes on MQTT.js, MQTT 5, with QoS 1 and at most 20 unacknowledged. A
// connection that ends is followed by a new client, which repeats what is
// unacknowledged and goes on. Ends with 0 when all is acknowledged. The messages
// and the log are those of log.py.
import { openSync, writeSync } from 'node:fs'
import mqtt from 'mqtt'

const [address, name, messages, rate, padding, path] = process.argv.slice(2)
const [total, perSecond, window, topics, deniedEvery] = [Number(messages), Number(rate), 20, 3, 50]
const log = openSync(path, 'w')
const begin = process.hrtime.bigint()
const epoch = BigInt(Date.now()) * 1_000_000n
const numbers = new Map()
const tried = new Set()
const unacknowledged = new Map() // "topic n" to its topic, in their order
let made = 0

function write (what, message) {
  writeSync(log, `${epoch + process.hrtime.bigint() - begin} ${what} ${message}\n`)
}

function next () {
  const topic = `${name}/${made % deniedEvery === deniedEvery - 1 ? 'denied' : made % topics}`
  made++
  numbers.set(topic, (numbers.get(topic) ?? 0) + 1)
  return [`${topic} ${numbers.get(topic)}`, topic]
}

function due () {
  return made < total && Number(process.hrtime.bigint() - begin) / 1e9 >= made / perSecond
}

function connect () {
  const client = mqtt.connect(`mqtt://${address}`, {
    clientId: `chaos-${name}`, protocolVersion: 5, clean: true, reconnectPeriod: 0, connectTimeout: 5000
  })
  let timer
  const publish = (message, topic) => {
    unacknowledged.set(message, topic)
    write(tried.has(message) ? 'again' : 'sent', message)
    tried.add(message)
    client.publish(`telemetry/${topic}`, `${message} ${'x'.repeat(Number(padding))}`, { qos: 1 }, (error, packet) => {
      if (error || (packet?.reasonCode ?? 0) >= 0x80) { // by 0x80 and above nothing was taken
        if (client.connected) client.end(true)
        return
      }
      write('ack', message)
      unacknowledged.delete(message)
      if (made === total && unacknowledged.size === 0) process.exit(0)
    })
  }
  client.on('connect', () => {
    for (const [message, topic] of [...unacknowledged]) publish(message, topic)
    timer = setInterval(() => {
      while (client.connected && unacknowledged.size < window && due()) publish(...next())
    }, 5)
  })
  client.on('error', () => {}) // a close follows
  client.once('close', () => {
    clearInterval(timer)
    client.end(true)
    setTimeout(connect, 100)
  })
}
connect()
