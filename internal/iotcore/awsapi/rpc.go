package awsapi

import (
	"encoding/xml"
	"net/http"
	"net/url"
	"strings"
	"sync"
)

// RPC serves the protocols that send everything to POST /. Its zero value is
// ready for use; Add and Query must not be called once it serves.
type RPC struct {
	Gate    Gate
	targets map[string]Operation // X-Amz-Target -> operation
	actions map[string]query     // Version + Action -> operation
	once    sync.Once
}

type query struct {
	Operation
	namespace string
}

// Add serves operations of the JSON 1.0 and 1.1 protocols: the names of ops
// follow prefix in the X-Amz-Target header, as in AmazonSQS.SendMessage.
func (p *RPC) Add(prefix string, ops map[string]Operation) {
	p.make()
	for name, op := range ops {
		p.targets[prefix+"."+name] = op
	}
}

// Query serves operations of the query protocol with its version, as
// 2010-05-08, and its XML name space. The answer is XML: what a handler
// returns becomes the content of <OperationResult>.
func (p *RPC) Query(version, namespace string, ops map[string]Operation) {
	p.make()
	for name, op := range ops {
		p.actions[version+" "+name] = query{op, namespace}
	}
}

func (p *RPC) make() {
	p.once.Do(func() { p.targets, p.actions = map[string]Operation{}, map[string]query{} })
}

// ServeHTTP tells the protocols apart by their headers.
func (p *RPC) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if target := r.Header.Get("X-Amz-Target"); target != "" {
		p.serveJSON(w, r, target)
		return
	}
	p.serveQuery(w, r)
}

func (p *RPC) serveJSON(w http.ResponseWriter, r *http.Request, target string) {
	contentType := r.Header.Get("Content-Type")
	if !strings.HasPrefix(contentType, "application/x-amz-json-") {
		contentType = "application/x-amz-json-1.0"
	}
	op, known := p.targets[target]
	req, err := newRequest(w, r, op.MaxBody)
	if err == nil && !known {
		err = Refuse(http.StatusBadRequest, "UnknownOperationException", "The emulator has no operation %s", target)
	}
	if err == nil {
		err = p.Gate.Admit(req, op)
	}
	var out any
	if err == nil {
		out, err = op.Handle(req)
	}
	if err == nil {
		writeJSON(w, contentType, op.Status, out)
		return
	}
	e := asError(err)
	code := e.Code
	if old, ok := e.Fields[QueryCode]; ok { // as SQS tells clients of its older protocol
		w.Header().Set("X-Amzn-Query-Error", old+";Sender")
	}
	w.Header().Set("X-Amzn-ErrorType", code)
	writeJSON(w, contentType, e.Status, map[string]string{"__type": code, "message": e.Message})
}

// QueryCode is the name in Error.Fields of an error's code in the query
// protocol that the service spoke before.
const QueryCode = "queryCode"

func (p *RPC) serveQuery(w http.ResponseWriter, r *http.Request) {
	req, err := newRequest(w, r, 0)
	if err == nil {
		req.form, err = url.ParseQuery(string(req.body))
	}
	name := req.Form("Action")
	op, known := p.actions[req.Form("Version")+" "+name]
	switch {
	case err != nil:
	case name == "":
		WriteError(w, Refuse(http.StatusNotFound, "UnknownOperationException", "The emulator has no operation %s %s", r.Method, r.URL.EscapedPath()))
		return
	case !known:
		err = Refuse(http.StatusBadRequest, "InvalidAction", "The emulator has no action %s of version %s", name, req.Form("Version"))
	default:
		err = p.Gate.Admit(req, op.Operation)
	}
	var out any
	if err == nil {
		out, err = op.Handle(req)
	}
	id := NewID()
	if err != nil {
		e := asError(err)
		writeXML(w, e.Status, struct {
			XMLName   xml.Name `xml:"ErrorResponse"`
			NS        string   `xml:"xmlns,attr,omitempty"`
			Type      string   `xml:"Error>Type"`
			Code      string   `xml:"Error>Code"`
			Message   string   `xml:"Error>Message"`
			RequestID string   `xml:"RequestId"`
		}{NS: op.namespace, Type: "Sender", Code: e.Code, Message: e.Message, RequestID: id})
		return
	}
	writeXML(w, http.StatusOK, response{name, op.namespace, out, id})
}

// response is the answer of a query operation.
type response struct {
	name, namespace string
	result          any
	id              string
}

// MarshalXML names the elements after the operation.
func (a response) MarshalXML(e *xml.Encoder, _ xml.StartElement) error {
	type metadata struct{ RequestId string }
	outer := xml.StartElement{Name: xml.Name{Local: a.name + "Response"}, Attr: []xml.Attr{{Name: xml.Name{Local: "xmlns"}, Value: a.namespace}}}
	if err := e.EncodeToken(outer); err != nil {
		return err
	}
	if a.result != nil {
		if err := e.EncodeElement(a.result, xml.StartElement{Name: xml.Name{Local: a.name + "Result"}}); err != nil {
			return err
		}
	}
	if err := e.EncodeElement(metadata{a.id}, xml.StartElement{Name: xml.Name{Local: "ResponseMetadata"}}); err != nil {
		return err
	}
	return e.EncodeToken(outer.End())
}

func writeXML(w http.ResponseWriter, status int, out any) {
	data, err := xml.Marshal(out)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/xml")
	w.WriteHeader(status)
	_, _ = w.Write(data) // as in writeJSON
}
