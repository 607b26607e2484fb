package activation

import (
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/service/iot/types"
)

// Errors for callers that act on them.
var (
	// ErrNoTime is that the context's deadline comes before the API's quota
	// would let the call through. The call was not made.
	ErrNoTime = errors.New("there is no time left for it in this invocation; it comes again")
	// ErrBadConfig is wrong configuration; each wrong thing is a line.
	ErrBadConfig = errors.New("wrong configuration")
	// ErrBadEvent is a payload that is no event of ours. It never heals.
	ErrBadEvent = errors.New("not an event that the activator knows")
)

// refusalError is why a certificate is refused for good.
type refusalError struct{ why string }

func (e *refusalError) Error() string { return e.why }

func refuse(format string, args ...any) error {
	return &refusalError{fmt.Sprintf(format, args...)}
}

// notYetValidError is a certificate whose time has not come. Its CA's clock
// was ahead; AWS turns it away until then whatever we do.
type notYetValidError struct{ why string }

func (e *notYetValidError) Error() string { return e.why }

func isNotFound(err error) bool {
	_, ok := errors.AsType[*types.ResourceNotFoundException](err)
	return ok
}
