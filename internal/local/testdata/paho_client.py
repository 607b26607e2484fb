"""usage: paho_client.py PORT VERSION COUNT

Publishes COUNT messages at QoS 1 with paho and subscribes to them; says how
many were acknowledged, and how many came back."""

import sys
import threading

import paho.mqtt.client as mqtt

port, version, count = map(int, sys.argv[1:])
acknowledged, received = set(), []
subscribed, done = threading.Event(), threading.Event()


def check():
    if len(acknowledged) == count and len(received) == count:
        done.set()


def on_connect(client, *_):
    client.subscribe("telemetry/#", qos=1)


def on_publish(client, userdata, mid):
    acknowledged.add(mid)
    check()


def on_message(client, userdata, message):
    received.append(int(message.payload))
    check()


client = mqtt.Client(client_id=f"paho-{version}", protocol=version)
client.max_inflight_messages_set(50)
client.on_connect, client.on_publish, client.on_message = on_connect, on_publish, on_message
client.on_subscribe = lambda *_: subscribed.set()
client.connect("127.0.0.1", port, keepalive=10)
client.loop_start()
subscribed.wait(10)
for i in range(count):
    client.publish("telemetry/paho", str(i), qos=1)
done.wait(30)
order = "in order" if received == sorted(received) else "out of order"
print(f"acknowledged {len(acknowledged)}, received {len(received)} {order}")
client.disconnect()
client.loop_stop()
