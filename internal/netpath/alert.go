package netpath

import (
	"errors"
	"net"
	"reflect"
)

// RemoteAlert is the number of the TLS alert with which the server ended a
// connection (RFC 8446, section 6). crypto/tls keeps the type of such an
// error to itself and errors.As with a tls.AlertError does not match it, so
// the number is read off its value.
func RemoteAlert(err error) (alert uint8, ok bool) {
	var op *net.OpError
	if !errors.As(err, &op) || op.Op != "remote error" {
		return 0, false
	}
	v := reflect.ValueOf(op.Err)
	if v.Kind() != reflect.Uint8 {
		return 0, false
	}
	return uint8(v.Uint()), true
}
