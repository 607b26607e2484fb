// Package mqtt is one MQTT 5 session with AWS IoT Core: from the CONNECT on an
// established TLS connection to the reason why it ended.
//
// It wraps paho.Client, which knows the protocol, with what paho leaves open:
// outcomes for pipelined publishes in order (window.go), writes that leave
// together under load and never block for ever (conn.go), a PUBLISH encoder
// that allocates nothing (frame.go), a guard against frames that would exhaust
// memory (guard.go), and an end that names its reason.
// It neither dials nor reconnects nor decides what an end means: package jitr
// does.
package mqtt
