"""usage: paho_client.py HOST PORT CAFILE CERT KEY CLIENT_ID TOPIC MESSAGES SIZE

Publishes with Eclipse Paho for Python: QoS 1, at most 100 unacknowledged. Ends
with 0 when every message has its PUBACK.
"""
import ssl
import sys
import threading

import paho.mqtt.client as mqtt

host, port, cafile, cert, key, client_id, topic = sys.argv[1:8]
messages, size = int(sys.argv[8]), int(sys.argv[9])
window = threading.Semaphore(100)
connected = threading.Event()

options = {"client_id": client_id, "protocol": mqtt.MQTTv5}
if hasattr(mqtt, "CallbackAPIVersion"):  # since 2.0
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, **options)
else:
    client = mqtt.Client(**options)
client.on_connect = lambda *_: connected.set()
client.on_publish = lambda *_: window.release()
client.max_inflight_messages_set(100)
client.tls_set(cafile, cert, key, tls_version=ssl.PROTOCOL_TLSv1_2)
client.connect(host, int(port), clean_start=True)
client.loop_start()
if not connected.wait(10):
    sys.exit("no CONNACK within 10 s")
payload = b"x" * size
for _ in range(messages):
    window.acquire()
    client.publish(topic, payload, qos=1)
for _ in range(100):
    window.acquire()
client.disconnect()
client.loop_stop()
