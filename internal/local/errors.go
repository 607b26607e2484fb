package local

import (
	"errors"
	"fmt"

	"github.com/mochi-mqtt/server/v2/packets"
)

// errGone ends a connection that the client closed, or that broke: nobody is
// there to be told.
var errGone = errors.New("the client has closed the connection")

// Why a socket's path cannot be taken.
var (
	errLives    = errors.New("another program listens there")
	errNoSocket = errors.New("there is a file that is not a socket")
)

// fault is why something was refused: code is the reason code of an MQTT 5
// PUBACK, SUBACK or DISCONNECT, why a sentence for the developer.
type fault struct {
	code byte
	why  string
}

func (f *fault) Error() string { return fmt.Sprintf("%s (0x%02X)", f.why, f.code) }

// passing says that the same message may be taken later.
func (f *fault) passing() bool {
	return f.code == packets.ErrQuotaExceeded.Code || f.code == packets.ErrImplementationSpecificError.Code
}

// faultf makes a fault with the code of c, one of the codec's.
func faultf(c packets.Code, format string, args ...any) *fault {
	return &fault{c.Code, fmt.Sprintf(format, args...)}
}

// malformed turns an error of the codec, which may be wrapped, into a fault.
func malformed(err error) *fault {
	code := packets.ErrMalformedPacket
	errors.As(err, &code)
	return &fault{code.Code, err.Error()}
}
