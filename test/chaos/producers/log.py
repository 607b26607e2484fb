"""What the producers in Python share: their messages, in order, and their log.

The log has a line for each first try (sent), repetition (again) and PUBACK
(ack), with the time in nanoseconds; see ../check.
"""
import time

DENIED_EVERY = 50  # each 50th message goes to a topic that the cloud denies
TOPICS = 3


class Log:
    def __init__(self, name, messages, rate, padding, path):
        self.file = open(path, "w", buffering=1)
        self.name, self.messages, self.rate = name, int(messages), float(rate)
        self.padding = "x" * int(padding)
        self.begin = time.monotonic()
        self.numbers = {}
        self.made = 0
        self.tried = set()

    def due(self):
        """Seconds until the next message is due, None after the last one."""
        if self.made == self.messages:
            return None
        return max(0.0, self.begin + self.made / self.rate - time.monotonic())

    def next(self, topic=None):
        """The next message: topic and number."""
        if topic is None:
            topic = self.topic()
        self.made += 1
        n = self.numbers[topic] = self.numbers.get(topic, 0) + 1
        return topic, n

    def topic(self):
        """The topic of the next message."""
        if self.made % DENIED_EVERY == DENIED_EVERY - 1:
            return self.name + "/denied"
        return f"{self.name}/{self.made % TOPICS}"

    def payload(self, message):
        return f"{message[0]} {message[1]} {self.padding}"

    def publishing(self, message):
        """To be called before a message leaves."""
        self.write("again" if message in self.tried else "sent", message)
        self.tried.add(message)

    def acknowledged(self, message):
        self.write("ack", message)

    def write(self, what, message):
        self.file.write(f"{time.time_ns()} {what} {message[0]} {message[1]}\n")
