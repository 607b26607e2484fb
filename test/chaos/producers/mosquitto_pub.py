"""usage: mosquitto_pub.py SOCKET NAME MESSAGES RATE PADDING LOG

Publishes with mosquitto_pub over a unix socket, MQTT 5, QoS 1: each process
gets up to 20 messages of one topic as lines. What counts as acknowledged is
what its debug output says, "received PUBACK (Mid: 3, RC:0)", with an RC below
128; the rest is repeated by the next process. A process may repeat by itself
too ("sending PUBLISH (d1"). Ends with 0 when all is acknowledged.
"""
import re
import subprocess
import sys
import time

from log import Log

BATCH = 20
REPEATED = re.compile(r"sending PUBLISH \(d1, q1, r0, m(\d+),")
PUBACK = re.compile(r"received PUBACK \(Mid: (\d+), RC:(\d+)\)")

socket, name, *rest = sys.argv[1:]
log = Log(name, *rest)


def publish(batch):
    """One process. Packet identifiers count from 1 in the order of the lines."""
    for message in batch:
        log.publishing(message)
    lines = "".join(log.payload(message) + "\n" for message in batch)
    command = ["stdbuf", "-oL", "mosquitto_pub", "--unix", socket, "-V", "mqttv5", "-q", "1", "-d", "-l",
               "-i", "chaos-" + name, "-t", "telemetry/" + batch[0][0]]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        out, _ = process.communicate(lines, timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        out, _ = process.communicate()
    for mid in REPEATED.findall(out):
        log.publishing(batch[int(mid) - 1])
    done = {batch[int(mid) - 1] for mid, code in PUBACK.findall(out) if int(code) < 0x80}
    for message in batch:
        if message in done:
            log.acknowledged(message)
    return [message for message in batch if message not in done]


while log.due() is not None:
    time.sleep(log.due())
    topic = log.topic()
    batch = [log.next()]
    while len(batch) < BATCH and log.due() == 0 and log.topic().endswith("/denied") == topic.endswith("/denied"):
        batch.append(log.next(topic))
    while batch := publish(batch):
        time.sleep(0.1)
