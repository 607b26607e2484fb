// Package local takes the messages of the gateway's own programs over MQTT
// (3.1.1 and 5, QoS 0 and 1), on a unix socket and, where configured, on a
// loopback port.
//
// It promises:
//
//   - A PUBLISH at QoS 1 is acknowledged when the buffer says that the message
//     is safe, not before, and never with success when it was not kept. The
//     PUBACKs of a client leave in the order of its messages.
//   - A client that does not read, or sends a byte a minute, delays nobody: a
//     client has a goroutine to read and one to write, and bounded queues.
//   - Memory is bounded before a packet is decoded. At most 64 clients are
//     served, and 32 connections more may be on their way in or out. A client
//     costs some 10 KiB; the most that a hostile one can hold is one packet
//     (128 KiB), its copy on the way to the buffer, and 128 KiB of messages
//     that it does not fetch: 0.4 MiB.
//   - A port or socket that another program has is a state, tried again, and
//     never the end of the service.
//
// It is no broker: there are no sessions, no stored messages but the retained
// ones of the agent itself, and no topics but those of telemetry and the
// agent's own. Who may open the socket may use it: user name and password are
// ignored.
package local
