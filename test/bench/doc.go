// Command bench is the second half of `make bench`: what we cost beside others
// who do the same, in one run on one machine.
//
// The judge is a mosquitto that plays the cloud: its own count of messages
// says whether all have arrived, and a mosquitto_sub at its plain listener sees
// the first and the last one. Every client speaks MQTT 5 over mutual TLS 1.2
// with one cipher, publishes 200 bytes at QoS 1, and may have 100 messages
// unacknowledged.
//
// A row of a table is a contender: a name, a number of messages, and a function
// that makes one measurement. Contenders of a table are measured in turn, for a
// number of rounds; a ratio is the median of the rounds' ratios, so what else
// the machine does in a round meets both. Nothing here fails for being slow.
package main
