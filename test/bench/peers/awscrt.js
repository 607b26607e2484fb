// usage: node awscrt.js HOST PORT CAFILE CERT KEY CLIENT_ID TOPIC MESSAGES SIZE
//
// Publishes with the AWS Common Runtime's MQTT 5 client, which is that of the
// AWS IoT Device SDK v2: QoS 1, at most 100 unacknowledged. Ends with 0 when
// every message has its PUBACK.
import { readFileSync } from 'node:fs'
import { io, mqtt5 } from 'aws-crt'

const [host, port, ca, cert, key, clientId, topic, messages, size] = process.argv.slice(2)
const payload = Buffer.alloc(Number(size), 'x')
let left = Number(messages)
let unacknowledged = 0

function fail (error) {
  console.error(String(error))
  process.exit(1)
}

const tls = new io.TlsContextOptions()
tls.certificate = readFileSync(cert, 'utf8')
tls.private_key = readFileSync(key, 'utf8')
tls.certificate_authority = readFileSync(ca, 'utf8')
tls.min_tls_version = io.TlsVersion.TLSv1_2

const client = new mqtt5.Mqtt5Client({
  hostName: host,
  port: Number(port),
  tlsCtx: new io.ClientTlsContext(tls),
  connectProperties: { clientId, keepAliveIntervalSeconds: 60 },
  sessionBehavior: mqtt5.ClientSessionBehavior.Clean
})

function send () {
  while (left > 0 && unacknowledged < 100) {
    left--
    unacknowledged++
    client.publish({ topicName: topic, qos: mqtt5.QoS.AtLeastOnce, payload }).then(() => {
      unacknowledged--
      send()
    }, fail)
  }
  if (left === 0 && unacknowledged === 0) client.stop()
}

client.on('error', fail)
client.on('connectionFailure', event => fail(event.error))
client.on('connectionSuccess', send)
client.on('stopped', () => process.exit(0))
client.start()
