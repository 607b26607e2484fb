"""usage: paho_client.py HOST:PORT NAME MESSAGES RATE PADDING LOG

Publishes on Eclipse Paho for Python, MQTT 3.1.1, with QoS 1 and at most 20
unacknowledged. A connection that ends is followed by a new client, which
repeats what is unacknowledged and goes on. Ends with 0 when all is acknowledged.
"""
import queue
import sys
import time

import paho.mqtt.client as mqtt
from log import Log

WINDOW = 20

address, name, *rest = sys.argv[1:]
host, port = address.rsplit(":", 1)
log = Log(name, *rest)
unacknowledged = {}  # in their order


def connection():
    """One MQTT client from CONNECT to its end."""
    # Paho calls back on a thread of its own and with locks held, so that the
    # callbacks only pass on what happened.
    events = queue.SimpleQueue()
    ids = {}  # packet identifier: message
    options = {"client_id": "chaos-" + name, "protocol": mqtt.MQTTv311}
    if hasattr(mqtt, "CallbackAPIVersion"):  # since 2.0
        options["callback_api_version"] = mqtt.CallbackAPIVersion.VERSION1
    client = mqtt.Client(**options)
    client.on_connect = lambda client, userdata, flags, code: events.put(("up" if code == 0 else "ended", None))
    client.on_disconnect = lambda client, userdata, code: events.put(("ended", None))
    client.on_publish = lambda client, userdata, mid: events.put(("puback", mid))

    def publish(message):
        unacknowledged[message] = True
        log.publishing(message)
        ids[client.publish("telemetry/" + message[0], log.payload(message), qos=1).mid] = message

    try:
        client.connect(host, int(port))
    except OSError:
        return
    client.loop_start()
    up = False
    while up is False or log.due() is not None or unacknowledged:
        if up and log.due() == 0 and len(unacknowledged) < WINDOW and events.empty():
            publish(log.next())
            continue
        try:
            what, mid = events.get(timeout=max(log.due() or 5, 0.001) if up else 5)
        except queue.Empty:
            if up:
                continue
            break  # no CONNACK
        if what == "ended":
            break
        if what == "up":
            up = True
            for message in list(unacknowledged):
                publish(message)
        elif mid in ids:
            message = ids.pop(mid)
            if unacknowledged.pop(message, None):
                log.acknowledged(message)
    client.disconnect()
    client.loop_stop()


while log.due() is not None or unacknowledged:
    connection()
    time.sleep(0.1)
