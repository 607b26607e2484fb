package main

import (
	"context"
	"os"
	"path/filepath"
)

// startBridge starts a mosquitto that does an agent's work: the same unix
// socket, the same topics, mutual TLS 1.2 and MQTT 5 to the cloud, messages kept
// for a cloud that is away. options are more lines, for the whole of it.
func (l *lab) startBridge(ctx context.Context, thing string, options ...string) (*path, error) {
	c, err := l.issue(ctx, thing)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(l.dir, "bridge")
	if err != nil {
		return nil, err
	}
	socket := filepath.Join(dir, "mqtt.sock")
	p, err := startMosquitto(ctx, dir, append(options,
		"persistence true",
		"persistence_location "+dir+"/",
		"listener 0 "+socket,
		"allow_anonymous true",
		"connection cloud",
		"address localhost:"+l.broker.tls,
		"bridge_protocol_version mqttv50",
		"bridge_cafile "+l.broker.server.cert,
		"bridge_certfile "+c.cert,
		"bridge_keyfile "+c.key,
		"bridge_tls_version tlsv1.2",
		"remote_clientid "+thing,
		"cleansession false",
		"notifications false",
		"try_private false",
		"topic # out 1 telemetry/ dt/"+thing+"/",
	)...)
	if err != nil {
		return nil, err
	}
	return &path{process: p, lab: l, thing: thing, socket: socket}, nil
}
