package iotcore

import "time"

// Limits of the AWS IoT Core message broker (AWS general reference, AWS IoT
// Core endpoints and quotas).
const (
	maxPayload         = 128 << 10 // bytes of a PUBLISH payload
	maxPacketSize      = 149504    // bytes, as AWS announces it in CONNACK
	receiveMaximum     = 100       // unacknowledged QoS 1 messages, each way
	topicAliasMaximum  = 8
	maxTopicBytes      = 256
	maxTopicSegments   = 8 // seven slashes
	maxClientID        = 128
	maxSubscriptions   = 50 // per connection
	maxFilters         = 8  // per SUBSCRIBE
	minKeepAlive       = 30 // seconds
	maxKeepAlive       = 1200
	maxSessionExpiry   = 7 * 24 * 3600 // seconds
	maxMessageExpiry   = 604800        // seconds
	connectInterval    = time.Second   // per client id
	registrationCodeHx = 64
)

// Limits of our own.
const (
	// connectTimeout is how long a connection may take from accept to
	// CONNECT. AWS documents no number.
	connectTimeout = 30 * time.Second
	// writeTimeout is how long a client may leave its socket unread.
	writeTimeout = 20 * time.Second
	// lingerTimeout is how long a closed connection waits for the client to
	// close too, so that a last packet is not destroyed by a reset.
	lingerTimeout = time.Second
	// maxQueued is how many bytes may wait for one client.
	maxQueued = 16 << 20
	// readLimit is where the broker stops reading a packet at all. Between
	// maxPacketSize and this a client is told why: DISCONNECT 0x95.
	readLimit = 1 << 20
	// maxAttempts is how many connection attempts are remembered.
	maxAttempts = 1 << 16
)
