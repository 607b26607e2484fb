package iotcore

import (
	"crypto/x509"
	"encoding/json"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/jitr-agent/jitr-agent/internal/certs"
)

// body is a JSON object of strings.
func body(pairs ...string) string {
	m := map[string]string{}
	for i := 0; i+1 < len(pairs); i += 2 {
		m[pairs[i]] = pairs[i+1]
	}
	return string(encode(m))
}

// want calls the API and checks status and error name ("" for none).
func (b *bench) want(status int, name, method, path, body string, header ...string) map[string]any {
	b.t.Helper()
	code, h, out := b.api(method, path, body, header...)
	if got := h.Get("X-Amzn-Errortype"); code != status || got != name {
		b.t.Fatalf("%s %s: %d %s %v, want %d %s", method, path, code, got, out, status, name)
	}
	if _, numeric := out["code"]; numeric {
		b.t.Errorf("%s %s: the error has a code, which aws-sdk-go-v2 cannot read: %v", method, path, out)
	}
	return out
}

func TestRegisterCACertificate(t *testing.T) {
	b := start(t, Config{})
	ca := newTestCA(t, "Second CA")
	pem := string(ca.pem())
	code := b.want(200, "", "GET", "/registrationcode", "")["registrationCode"].(string)
	if len(code) != 64 || b.want(200, "", "GET", "/registrationcode", "")["registrationCode"] != code {
		t.Errorf("registration code %q", code)
	}
	proof := func(signer *testCA, name string) string { return signer.issue(t, name).pem() }
	weak := newTestCA(t, "x").issue(t, "no CA")

	const path = "/cacertificate"
	b.want(400, "InvalidRequestException", "POST", path, "{}")
	b.want(400, "SerializationException", "POST", path, "{")
	b.want(400, "InvalidRequestException", "POST", path, body("caCertificate", pem))
	b.want(400, "CertificateValidationException", "POST", path, body("caCertificate", "no pem", "verificationCertificate", proof(ca, code)))
	b.want(400, "CertificateValidationException", "POST", path, body("caCertificate", weak.pem(), "verificationCertificate", proof(ca, code)))
	b.want(400, "CertificateValidationException", "POST", path, body("caCertificate", pem, "verificationCertificate", proof(b.ca, code)))
	b.want(400, "RegistrationCodeValidationException", "POST", path, body("caCertificate", pem, "verificationCertificate", proof(ca, "other")))
	b.want(400, "InvalidRequestException", "POST", path, body("caCertificate", pem, "verificationCertificate", proof(ca, code), "certificateMode", "SNI_ONLY"))
	b.want(400, "InvalidRequestException", "POST", path, body("caCertificate", pem, "certificateMode", "X"))

	out := b.want(200, "", "POST", path, body("caCertificate", pem, "verificationCertificate", proof(ca, code)))
	id := certs.ID(ca.cert)
	if out["certificateId"] != id || out["certificateArn"] != ownARN+"cacert/"+id {
		t.Errorf("registered: %v", out)
	}
	again := b.want(409, "ResourceAlreadyExistsException", "POST", path, body("caCertificate", pem, "verificationCertificate", proof(ca, code)))
	if again["resourceId"] != id || again["resourceArn"] != ownARN+"cacert/"+id {
		t.Errorf("again: %v", again)
	}

	describe := func() (string, string) {
		d := b.want(200, "", "GET", path+"/"+id, "")["certificateDescription"].(map[string]any)
		return d["status"].(string), d["autoRegistrationStatus"].(string)
	}
	if s, auto := describe(); s != "INACTIVE" || auto != "DISABLE" {
		t.Errorf("a new CA is %s, %s", s, auto)
	}
	b.want(200, "", "PUT", path+"/"+id+"?newStatus=ACTIVE", "{}")
	b.want(200, "", "PUT", path+"/"+id+"?newAutoRegistrationStatus=ENABLE", "{}")
	if s, auto := describe(); s != "ACTIVE" || auto != "ENABLE" {
		t.Errorf("the updated CA is %s, %s", s, auto)
	}
	b.want(400, "InvalidRequestException", "PUT", path+"/"+id+"?newStatus=REVOKED", "{}")
	b.want(404, "ResourceNotFoundException", "PUT", path+"/beef?newStatus=ACTIVE", "{}")
	b.want(406, "CertificateStateException", "DELETE", path+"/"+id, "")
	if got := b.try(ca.issue(t, "gw-1"), "gw-1"); got != "fin" || b.outcomes(1)[0] != OutcomeRegistered {
		t.Errorf("a device of the new CA: %s, %v", got, b.outcomes(1))
	}
	sniOnly := newTestCA(t, "Third CA")
	b.want(200, "", "POST", path+"?setAsActive=true&allowAutoRegistration=true", body("caCertificate", string(sniOnly.pem()), "certificateMode", "SNI_ONLY"))
	if all := b.want(200, "", "GET", "/cacertificates", "")["certificates"].([]any); len(all) != 3 {
		t.Errorf("%d CAs", len(all))
	}
}

func TestRegisterCertificateAndStatus(t *testing.T) {
	b := start(t, Config{})
	gw := b.ca.issue(t, "gw-1")
	const path = "/certificate/register"
	b.want(406, "CertificateStateException", "POST", path, body("certificatePem", gw.pem(), "status", "PENDING_ACTIVATION"))
	b.want(400, "CertificateValidationException", "POST", path, body("certificatePem", newTestCA(t, "x").issue(t, "y").pem(), "status", "ACTIVE"))
	events := make(chan Message, 1)
	b.Observe(func(m Message) { events <- m })
	b.want(200, "", "POST", path, body("certificatePem", gw.pem(), "caCertificatePem", string(b.ca.pem())))
	b.want(409, "ResourceAlreadyExistsException", "POST", path, body("certificatePem", gw.pem()))
	if len(events) != 0 {
		t.Error("RegisterCertificate published an event")
	}
	d := b.want(200, "", "GET", "/certificates/"+gw.id, "")["certificateDescription"].(map[string]any)
	if d["status"] != "INACTIVE" || d["caCertificateId"] != b.caID || d["certificatePem"] != gw.pem() {
		t.Errorf("described: %v", d)
	}
	b.want(406, "CertificateStateException", "PUT", "/certificates/"+gw.id+"?newStatus=PENDING_ACTIVATION", "")
	b.want(400, "InvalidRequestException", "PUT", "/certificates/"+gw.id+"?newStatus=active", "")
	b.want(404, "ResourceNotFoundException", "PUT", "/certificates/beef?newStatus=ACTIVE", "")
	b.want(200, "", "PUT", "/certificates/"+gw.id+"?newStatus=ACTIVE", "")
	b.want(406, "CertificateStateException", "DELETE", "/certificates/"+gw.id, "")
	b.want(200, "", "PUT", "/certificates/"+gw.id+"?newStatus=REVOKED", "")
	b.want(200, "", "DELETE", "/certificates/"+gw.id, "")
	b.want(404, "ResourceNotFoundException", "GET", "/certificates/"+gw.id, "")
}

func TestPages(t *testing.T) {
	b := start(t, Config{})
	var ids []string
	for range 5 {
		gw := b.ca.issue(t, "gw")
		b.want(200, "", "POST", "/certificate/register", body("certificatePem", gw.pem()))
		ids = append(ids, gw.id)
	}
	var got []string
	marker, pages := "", 0
	for {
		out := b.want(200, "", "GET", "/certificates-by-ca/"+b.caID+"?pageSize=2&isAscendingOrder=true&marker="+marker, "")
		for _, c := range out["certificates"].([]any) {
			got = append(got, c.(map[string]any)["certificateId"].(string))
		}
		pages++
		next, more := out["nextMarker"].(string)
		if !more {
			break
		}
		marker = next
	}
	if !slices.Equal(got, ids) || pages != 3 {
		t.Errorf("%d pages: %v, want %v", pages, got, ids)
	}
	b.want(400, "InvalidRequestException", "GET", "/certificates?pageSize=0", "")
}

// An account's way by hand: policy, thing, principals, ACTIVE.
func TestPoliciesAndThings(t *testing.T) {
	b := start(t, Config{NoConnectRate: true})
	gw := b.ca.issue(t, "gw-1")
	b.try(gw, "gw-1")
	arn := ownARN + "cert/" + gw.id
	escaped := url.PathEscape(arn)
	doc := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:Connect","Resource":"` + ownARN + `client/${iot:Connection.Thing.ThingName}"}]}`

	b.want(400, "MalformedPolicyException", "POST", "/policies/p+1", body("policyDocument", "{}"))
	b.want(410, "LimitExceededException", "POST", "/policies/p+1", body("policyDocument", `{"Statement":"`+strings.Repeat("x", 2048)+`"}`))
	b.want(400, "InvalidRequestException", "POST", "/policies/p%20q", body("policyDocument", doc))
	out := b.want(200, "", "POST", "/policies/p%2B1", body("policyDocument", doc))
	if out["policyName"] != "p+1" || out["policyVersionId"] != "1" {
		t.Errorf("created: %v", out)
	}
	b.want(409, "ResourceAlreadyExistsException", "POST", "/policies/p+1", body("policyDocument", doc))
	if got := b.want(200, "", "GET", "/policies/p+1", ""); got["policyDocument"] != doc {
		t.Errorf("policy: %v", got)
	}
	b.want(404, "ResourceNotFoundException", "PUT", "/target-policies/none", body("target", arn))
	b.want(400, "InvalidRequestException", "PUT", "/target-policies/p+1", body("target", "x"))
	b.want(404, "ResourceNotFoundException", "PUT", "/target-policies/p+1", body("target", ownARN+"cert/beef"))
	for range 2 { // idempotent
		b.want(200, "", "PUT", "/target-policies/p%2B1", body("target", arn))
		b.want(200, "", "PUT", "/principal-policies/p%2B1", "", "x-amzn-iot-principal", arn)
	}
	if got := b.want(200, "", "POST", "/attached-policies/"+escaped, "")["policies"].([]any); len(got) != 1 {
		t.Errorf("attached: %v", got)
	}

	thing := b.want(200, "", "POST", "/things/gw-1", `{"attributePayload":{"attributes":{"site":"a"}}}`)
	if same := b.want(200, "", "POST", "/things/gw-1", `{"attributePayload":{"attributes":{"site":"a"}}}`); same["thingId"] != thing["thingId"] {
		t.Error("CreateThing is not idempotent")
	}
	b.want(409, "ResourceAlreadyExistsException", "POST", "/things/gw-1", `{}`)
	if got := b.want(200, "", "GET", "/things/gw-1", ""); got["attributes"].(map[string]any)["site"] != "a" {
		t.Errorf("thing: %v", got)
	}
	b.want(404, "ResourceNotFoundException", "PUT", "/things/none/principals", "", "x-amzn-principal", arn)

	b.want(200, "", "PUT", "/certificates/"+gw.id+"?newStatus=ACTIVE", "")
	if got := b.try(gw, "gw-1"); got != "connack 0x87" {
		t.Errorf("before the thing is attached: %s", got)
	}
	b.want(200, "", "PUT", "/things/gw-1/principals", "", "x-amzn-principal", arn)
	if got := b.want(200, "", "GET", "/things/gw-1/principals", "")["principals"].([]any); len(got) != 1 || got[0] != arn {
		t.Errorf("principals: %v", got)
	}
	if got := b.want(200, "", "GET", "/principals/things", "", "x-amzn-principal", arn)["things"].([]any); len(got) != 1 || got[0] != "gw-1" {
		t.Errorf("things: %v", got)
	}
	if got := b.try(gw, "gw-1"); got != "connack 0x0" {
		t.Errorf("after: %s", got)
	}
	b.want(200, "", "POST", "/target-policies/p+1", body("target", arn))
	if got := b.try(gw, "gw-1"); got != "connack 0x87" {
		t.Errorf("after DetachPolicy: %s", got)
	}
}

// A change of policy counts for connections that are up.
func TestPolicyChangeReachesAConnection(t *testing.T) {
	b := start(t, Config{})
	gw := b.accepted("gw-1", narrow)
	d := b.connect(gw, "gw-1")
	for i, want := range []byte{0x87, 0} {
		d.publish("other/x", 1, uint16(i+1), "x")
		if ack := readPuback(d); ack != want {
			t.Errorf("PUBACK 0x%02x, want 0x%02x", ack, want)
		}
		b.want(200, "", "PUT", "/target-policies/"+ownPolicy, body("target", ownARN+"cert/"+gw.id))
	}
}

func TestRESTShadowAndPublish(t *testing.T) {
	b := start(t, Config{})
	d := b.connect(b.accepted("operator", ""), "operator")
	d.subscribe("a b/c", "$aws/things/gw-1/shadow/update/#")
	b.want(200, "", "POST", "/topics/a%20b%2Fc?qos=1&contentType=text%2Fplain", "hello")
	if m := d.receive(); m.Topic != "a b/c" || string(m.Payload) != "hello" || m.QoS != 1 || m.Properties.ContentType != "text/plain" {
		t.Errorf("published: %v", m)
	}
	b.want(403, "ForbiddenException", "POST", "/topics/%24aws%2Fevents%2Fcertificates%2Fregistered%2Fx", "{}")
	b.want(400, "InvalidRequestException", "POST", "/topics/a%2F%23", "x")
	b.want(400, "InvalidRequestException", "POST", "/topics/a?qos=2", "x")
	b.want(413, "RequestEntityTooLargeException", "POST", "/topics/a", strings.Repeat("x", maxPayload+1))

	const path = "/things/gw-1/shadow"
	out := b.want(404, "ResourceNotFoundException", "GET", path, "")
	if out["message"] != "No shadow exists with name: 'gw-1'" || out["traceId"] == "" {
		t.Errorf("no shadow: %v", out)
	}
	if got := b.want(200, "", "POST", path, `{"state":{"desired":{"a":1}}}`); got["version"] != 1.0 {
		t.Errorf("updated: %v", got)
	}
	for _, want := range []string{"accepted", "delta", "documents"} {
		if m := d.receive(); m.Topic != "$aws/things/gw-1/shadow/update/"+want {
			t.Errorf("MQTT heard of %s, want %s", m.Topic, want)
		}
	}
	b.want(409, "ConflictException", "POST", path, `{"state":{},"version":7}`)
	b.want(400, "InvalidRequestException", "POST", path, `{`)
	b.want(415, "UnsupportedDocumentEncodingException", "POST", path, "{\"\xff\"}")
	got := b.want(200, "", "GET", path, "")
	if data, err := json.Marshal(got["state"]); err != nil || string(data) != `{"delta":{"a":1},"desired":{"a":1}}` {
		t.Errorf("state %s, %v", data, err)
	}
	b.want(404, "ResourceNotFoundException", "GET", path+"?name=net", "")
	b.want(200, "", "POST", path+"?name=net", `{"state":{"reported":{"up":true}}}`)
	b.want(200, "", "DELETE", path, "")
	b.want(404, "ResourceNotFoundException", "DELETE", path, "")
	b.want(200, "", "GET", path+"?name=net", "")
}

func TestOtherOperations(t *testing.T) {
	b := start(t, Config{})
	if got := b.want(200, "", "GET", "/endpoint?endpointType=iot:Data-ATS", ""); got["endpointAddress"] != b.MQTTAddr() {
		t.Errorf("endpoint %v", got)
	}
	b.want(400, "InvalidRequestException", "GET", "/endpoint?endpointType=iot:Data", "")
	b.want(404, "UnknownOperationException", "GET", "/jobs", "")
	b.want(404, "ResourceNotFoundException", "GET", "/sim/certificates/beef", "")
	gw := b.ca.issue(t, "gw-1")
	b.try(gw, "gw-1")
	story := b.want(200, "", "GET", "/sim/certificates/"+gw.id, "")
	if story["refusedWhilePending"] != 1.0 || story["firstSeenAt"] == nil || story["activatedAt"] != nil {
		t.Errorf("story %v", story)
	}
	list := b.want(200, "", "GET", "/sim/attempts", "")["attempts"].([]any)
	if a := list[0].(map[string]any); a["outcome"] != "registered" || a["clientId"] != "gw-1" || a["clientCertificates"] != 2.0 {
		t.Errorf("attempt %v", a)
	}
	b.connect(b.accepted("gw-2", ""), "gw-2")
	if got := b.want(200, "", "GET", "/sim/clients", "")["clients"].([]any); len(got) != 1 || got[0] != "gw-2" {
		t.Errorf("clients %v", got)
	}
}

func TestSNIOnlyNeedsSNI(t *testing.T) {
	b := start(t, Config{})
	ca := newTestCA(t, "SNI CA")
	b.want(200, "", "POST", "/cacertificate?setAsActive=true&allowAutoRegistration=true", body("caCertificate", string(ca.pem()), "certificateMode", "SNI_ONLY"))
	gw := ca.issue(t, "gw-1")
	b.try(gw, "gw-1", withoutSNI)
	b.try(gw, "gw-1")
	b.try(gw, "gw-1", withoutSNI)
	want := []Outcome{OutcomeNotRegistered, OutcomeRegistered, OutcomeNotRegistered}
	if got := b.outcomes(len(want)); !slices.Equal(got, want) {
		t.Errorf("outcomes %v, want %v", got, want)
	}
}

func TestRegisterCAOfTheCommandLine(t *testing.T) {
	b := start(t, Config{})
	off := statusInactive
	if err := b.registry.updateCA(b.caID, &off, nil); err != nil {
		t.Fatal(err)
	}
	id, err := b.RegisterCA(b.ca.pem()) // again: ACTIVE again
	if err != nil || id != b.caID {
		t.Errorf("%s, %v", id, err)
	}
	if rec, _ := b.registry.ca(id); rec.Status != statusActive {
		t.Errorf("the CA is %s", rec.Status)
	}
	leaf := b.ca.issue(t, "x")
	if _, err := b.RegisterCA([]byte(leaf.pem())); err == nil || !strings.Contains(err.Error(), "CA:TRUE") {
		t.Errorf("a leaf as a CA: %v", err)
	}
	if _, err := b.RegisterCA(certs.EncodeChain([]*x509.Certificate{})); err == nil {
		t.Error("an empty file was taken")
	}
}
