"""usage: paho_client.py HOST PORT CAFILE CERT KEY CLIENT_ID

An MQTT 5 client on Eclipse Paho for Python. It subscribes to peer/CLIENT_ID
and to its shadow's answer, publishes to both with QoS 1, and prints what comes
back, one line each. It ends with 0 when it got both within 10 s.
"""
import json
import sys
import threading

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

host, port, cafile, cert, key, client_id = sys.argv[1:]
own = "peer/" + client_id
update = "$aws/things/" + client_id + "/shadow/update"
expected = {own, update + "/accepted"}
done = threading.Event()


def on_connect(client, userdata, flags, reason, properties):
    print("connack", reason, "receive maximum", getattr(properties, "ReceiveMaximum", None), flush=True)
    if reason.value != 0:
        done.set()
        return
    client.subscribe([(topic, 1) for topic in sorted(expected)])


def on_subscribe(client, userdata, mid, reasons, properties):
    print("suback", *[reason.value for reason in reasons], flush=True)
    properties = Properties(PacketTypes.PUBLISH)
    properties.ContentType = "text/plain"
    properties.UserProperty = ("from", "paho")
    client.publish(own, "hello", qos=1, properties=properties)
    client.publish(update, json.dumps({"state": {"reported": {"client": "paho"}}}), qos=1)


def on_message(client, userdata, message):
    if message.topic == own:
        print("message", message.payload.decode(), message.properties.ContentType, dict(message.properties.UserProperty), flush=True)
    else:
        print("shadow version", json.loads(message.payload)["version"], flush=True)
    expected.discard(message.topic)
    if not expected:
        done.set()


options = {"client_id": client_id, "protocol": mqtt.MQTTv5}
if hasattr(mqtt, "CallbackAPIVersion"):  # since 2.0
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, **options)
else:
    client = mqtt.Client(**options)
client.on_connect, client.on_subscribe, client.on_message = on_connect, on_subscribe, on_message
client.tls_set(cafile, cert, key)
client.connect(host, int(port), clean_start=True)
client.loop_start()
done.wait(10)
client.disconnect()
client.loop_stop()
sys.exit(1 if expected else 0)
