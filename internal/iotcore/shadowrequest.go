package iotcore

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"unicode/utf8"
)

// shadowError is a refusal of the shadow service: an HTTP-like code and the
// text that AWS documents for it.
type shadowError struct {
	code    int
	message string
}

func (e *shadowError) Error() string { return e.message }

// shadowRequest is a request document after all checks that need no shadow.
type shadowRequest struct {
	state       object // its values are objects or nil
	version     *int64
	clientToken string
}

// parseShadowUpdate reads the body of an update. The errors are
// *shadowError; req.clientToken is set even then where it could be read,
// for the answer carries it.
func parseShadowUpdate(payload []byte) (req shadowRequest, err error) {
	doc, err := parseShadowJSON(payload)
	if err != nil {
		return req, err
	}
	if req.clientToken, err = clientToken(doc); err != nil {
		return req, err
	}
	state, ok := doc["state"]
	if !ok {
		return req, &shadowError{400, "Missing required node: state"}
	}
	if req.state, ok = state.(object); !ok {
		return req, &shadowError{400, "State node must be an object"}
	}
	for name, section := range req.state {
		var text string
		switch name {
		case "desired":
			text = "Desired node must be an object"
		case "reported":
			text = "Reported node must be an object"
		default:
			return req, &shadowError{400, "State contains an invalid node: '" + name + "'"}
		}
		if section == nil {
			continue
		}
		if _, ok := section.(object); !ok {
			return req, &shadowError{400, text}
		}
		if err := checkTree(section, 1, false); err != nil {
			return req, err
		}
	}
	if v, ok := doc["version"]; ok && v != nil {
		number, ok := v.(json.Number)
		n, err := number.Int64()
		if !ok || err != nil || n < 0 {
			return req, &shadowError{400, "Invalid version"}
		}
		req.version = &n
	}
	return req, nil
}

// parseShadowToken reads the body of a get or delete: nothing, or an object
// with a client token.
func parseShadowToken(payload []byte) (string, error) {
	if len(bytes.TrimSpace(payload)) == 0 {
		return "", nil
	}
	doc, err := parseShadowJSON(payload)
	if err != nil {
		return "", err
	}
	return clientToken(doc)
}

func parseShadowJSON(payload []byte) (object, error) {
	if len(payload) > maxPayload {
		return nil, &shadowError{413, "The payload exceeds the maximum size allowed"}
	}
	if !utf8.Valid(payload) {
		return nil, &shadowError{415, "Unsupported documented encoding; supported encoding is UTF-8"}
	}
	var doc object
	d := json.NewDecoder(bytes.NewReader(payload))
	d.UseNumber()
	if err := d.Decode(&doc); err != nil || doc == nil {
		return nil, &shadowError{400, "Invalid JSON"}
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, &shadowError{400, "Invalid JSON"}
	}
	return doc, nil
}

func clientToken(doc object) (string, error) {
	v, ok := doc["clientToken"]
	if !ok || v == nil {
		return "", nil
	}
	token, ok := v.(string)
	if !ok || len(token) > maxClientToken {
		return "", &shadowError{400, "Invalid clientToken"}
	}
	return token, nil
}

// checkTree refuses too deep nesting, and null inside an array.
func checkTree(v any, level int, inArray bool) error {
	switch v := v.(type) {
	case nil:
		if inArray {
			return &shadowError{400, "State contains an invalid node"}
		}
	case object:
		if level > maxShadowLevels {
			return tooDeep()
		}
		for _, inner := range v {
			if err := checkTree(inner, level+1, inArray); err != nil {
				return err
			}
		}
	case []any:
		if level > maxShadowLevels {
			return tooDeep()
		}
		for _, inner := range v {
			if err := checkTree(inner, level+1, true); err != nil {
				return err
			}
		}
	}
	return nil
}

func tooDeep() error {
	return &shadowError{400, "JSON contains too many levels of nesting; maximum is 6"}
}
