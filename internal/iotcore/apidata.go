package iotcore

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/jitr-agent/jitr-agent/internal/iotcore/awsapi"
)

// publish is Publish of the data plane's HTTP side. The topics that clients
// may not publish to are refused here too.
func (a *api) publish(r *awsapi.Request) (any, error) {
	topic := r.PathValue("topic")
	if !validTopic(topic) || hasWildcard(topic) {
		return nil, invalidRequest("Invalid topic: %q", topic)
	}
	if !mayPublish(topic) {
		return nil, awsapi.Refuse(http.StatusForbidden, "ForbiddenException", "Publishing to %s is not allowed", topic)
	}
	payload := r.Body()
	if len(payload) > maxPayload {
		return nil, awsapi.Refuse(http.StatusRequestEntityTooLarge, "RequestEntityTooLargeException", "The payload exceeds the maximum size allowed")
	}
	q := r.URL.Query()
	pk := packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Publish, Retain: q.Get("retain") == "true"},
		TopicName:   topic, Payload: payload,
		Properties: packets.Properties{ContentType: q.Get("contentType"), ResponseTopic: q.Get("responseTopic")},
	}
	switch q.Get("qos") {
	case "", "0":
	case "1":
		pk.FixedHeader.Qos, pk.PacketID = 1, 1
	default:
		return nil, invalidRequest("qos %q is neither 0 nor 1", q.Get("qos"))
	}
	if s := q.Get("messageExpiry"); s != "" {
		n, err := strconv.ParseUint(s, 10, 32)
		if err != nil {
			return nil, invalidRequest("messageExpiry %q is not a number of seconds", s)
		}
		pk.Properties.MessageExpiryInterval = uint32(min(n, maxMessageExpiry))
	}
	if err := a.broker.InjectPacket(a.client, pk); err != nil {
		return nil, err
	}
	a.hook.shadowRequest(topic, payload)
	return map[string]string{"message": "OK", "traceId": awsapi.NewID()}, nil
}

func (a *api) getThingShadow(r *awsapi.Request) (any, error)    { return a.shadow(r, "get") }
func (a *api) updateThingShadow(r *awsapi.Request) (any, error) { return a.shadow(r, "update") }
func (a *api) deleteThingShadow(r *awsapi.Request) (any, error) { return a.shadow(r, "delete") }

// shadow carries out a request that came by HTTP. MQTT hears of what changed,
// and not of errors.
func (a *api) shadow(r *awsapi.Request, verb string) (any, error) {
	t := shadowTopic{shadowKey{r.PathValue("name"), r.URL.Query().Get("name")}, verb}
	answer, also, _, err := a.shadows.request(t, r.Body())
	if refused, ok := errors.AsType[*shadowError](err); ok {
		return nil, refused.http()
	}
	if err != nil {
		return nil, err
	}
	if verb != "get" {
		a.hook.send(append([]message{{t.prefix() + "/" + verb + "/accepted", answer}}, also...))
	}
	return json.RawMessage(answer), nil
}

// http is the refusal in the form of the HTTP API.
func (e *shadowError) http() *awsapi.Error {
	name := "InvalidRequestException"
	switch e.code {
	case http.StatusNotFound:
		name = "ResourceNotFoundException"
	case http.StatusConflict:
		name = "ConflictException"
	case http.StatusRequestEntityTooLarge:
		name = "RequestEntityTooLargeException"
	case http.StatusUnsupportedMediaType:
		name = "UnsupportedDocumentEncodingException"
	}
	return &awsapi.Error{Status: e.code, Code: name, Message: e.message, Fields: map[string]string{"traceId": awsapi.NewID()}}
}
