package iotcore

import (
	"encoding/json"
	"net/http"
	"strconv"

	"github.com/mochi-mqtt/server/v2/packets"
)

// publish is Publish of the data plane's HTTP side. The topics that clients
// may not publish to are refused here too.
func (a *api) publish(r *http.Request) (any, error) {
	topic := r.PathValue("topic")
	if !validTopic(topic) || hasWildcard(topic) {
		return nil, invalidRequest("Invalid topic: %q", topic)
	}
	if !mayPublish(topic) {
		return nil, &apiError{status: http.StatusForbidden, name: "ForbiddenException", message: "Publishing to " + topic + " is not allowed"}
	}
	payload, err := readBody(r)
	if err != nil {
		return nil, err
	}
	if len(payload) > maxPayload {
		return nil, &apiError{status: http.StatusRequestEntityTooLarge, name: "RequestEntityTooLargeException", message: "The payload exceeds the maximum size allowed"}
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
	return map[string]string{"message": "OK", "traceId": newUUID()}, nil
}

func (a *api) getThingShadow(r *http.Request) (any, error)    { return a.shadow(r, "get") }
func (a *api) updateThingShadow(r *http.Request) (any, error) { return a.shadow(r, "update") }
func (a *api) deleteThingShadow(r *http.Request) (any, error) { return a.shadow(r, "delete") }

// shadow carries out a request that came by HTTP. MQTT hears of what changed,
// and not of errors.
func (a *api) shadow(r *http.Request, verb string) (any, error) {
	t := shadowTopic{shadowKey{r.PathValue("name"), r.URL.Query().Get("name")}, verb}
	payload, err := readBody(r)
	if err != nil {
		return nil, err
	}
	answer, also, _, err := a.shadows.request(t, payload)
	if err != nil {
		return nil, err
	}
	if verb != "get" {
		a.hook.send(append([]message{{t.prefix() + "/" + verb + "/accepted", answer}}, also...))
	}
	return json.RawMessage(answer), nil
}

// http is the refusal in the form of the HTTP API.
func (e *shadowError) http() *apiError {
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
	return &apiError{status: e.code, name: name, message: e.message}
}
