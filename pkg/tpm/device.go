package tpm

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"time"
)

// maxResponse is more than any TPM answers (TPM2_MAX_RESPONSE_SIZE is 4096 in
// the reference implementation and in the kernel's buffer).
const maxResponse = 4096

// headerSize is that of a command or response: tag, size, code.
const headerSize = 10

// errNotDevice: the setting names something that cannot be a TPM.
var errNotDevice = errors.New("it names no TPM")

// device carries one command at a time to a TPM and brings the response back.
type device interface {
	// Send returns early when ctx ends, where the device can be interrupted.
	Send(ctx context.Context, command []byte) ([]byte, error)
	// Managed says that a resource manager stands between us and the TPM:
	// handles are ours alone and are flushed when we are gone.
	Managed() bool
	Close() error
}

func openDevice(name string) (device, error) {
	switch {
	case strings.HasPrefix(name, "unix:"):
		return openSocket("unix", strings.TrimPrefix(name, "unix:"))
	case strings.HasPrefix(name, "tcp:"):
		return openSocket("tcp", strings.TrimPrefix(name, "tcp:"))
	case strings.HasPrefix(name, "/"):
		return openNode(name)
	}
	return nil, fmt.Errorf(`%w: it is neither an absolute path nor "unix:PATH" nor "tcp:HOST:PORT"`, errNotDevice)
}

// node is a character device of the kernel, /dev/tpmrm0 as a rule. It is used
// in blocking mode: in non-blocking mode a read that comes before the kernel's
// worker has begun returns nothing. So a command cannot be interrupted; the
// driver has time limits of its own.
type node struct {
	path string
	file *os.File // nil after an error: opened again by the next command
}

func openNode(path string) (*node, error) {
	n := &node{path: path}
	return n, n.open()
}

func (n *node) open() error {
	info, err := os.Stat(n.path)
	if err != nil {
		return err
	}
	if info.Mode()&os.ModeCharDevice == 0 {
		return fmt.Errorf("%w: it is not a character device", errNotDevice)
	}
	// Not os.OpenFile: it would put a file that can be polled into
	// non-blocking mode.
	for {
		fd, err := syscall.Open(n.path, syscall.O_RDWR|syscall.O_CLOEXEC, 0)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil {
			return &os.PathError{Op: "open", Path: n.path, Err: err}
		}
		n.file = os.NewFile(uintptr(fd), n.path)
		return nil
	}
}

func (n *node) Send(_ context.Context, command []byte) ([]byte, error) {
	if n.file == nil {
		if err := n.open(); err != nil {
			return nil, err
		}
	}
	rsp, err := n.exchange(command)
	if err != nil {
		n.file.Close()
		n.file = nil
	}
	return rsp, err
}

func (n *node) exchange(command []byte) ([]byte, error) {
	if _, err := n.file.Write(command); err != nil {
		return nil, err
	}
	buf := make([]byte, maxResponse)
	size, err := n.file.Read(buf) // the kernel gives a response in one piece
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return buf[:size], nil
}

func (*node) Managed() bool { return true }

func (n *node) Close() error {
	if n.file == nil {
		return nil
	}
	return n.file.Close()
}

// socket is a software TPM (swtpm) behind a unix or TCP socket. Each command
// has a connection of its own: swtpm serves one connection at a time, and a
// kept one would lock out csr, doctor and OpenSSL. A restart of the software
// TPM then needs no care either.
type socket struct {
	network, address string
}

func openSocket(network, address string) (*socket, error) {
	dialer := net.Dialer{Timeout: commandLimit}
	conn, err := dialer.DialContext(context.Background(), network, address)
	if errors.Is(err, syscall.EAGAIN) {
		return &socket{network, address}, nil // busy, so it is there
	}
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return nil, fmt.Errorf("%w: %s", errNoAnswer, err) //nolint:errorlint // no context of the caller has ended
	}
	if err != nil {
		return nil, err
	}
	return &socket{network, address}, conn.Close()
}

// dial connects. swtpm listens with a backlog of 1, and where that is full a
// unix socket does not wait but answers EAGAIN.
func (s *socket) dial(ctx context.Context) (net.Conn, error) {
	var dialer net.Dialer
	for {
		conn, err := dialer.DialContext(ctx, s.network, s.address)
		if !errors.Is(err, syscall.EAGAIN) {
			return conn, err
		}
		select {
		case <-time.After(5 * time.Millisecond): // some ten signatures of swtpm
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (s *socket) Send(ctx context.Context, command []byte) ([]byte, error) {
	conn, err := s.dial(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	// Closing unblocks what is under way. The error that this makes does not
	// matter, because the caller looks at ctx.
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if _, err := conn.Write(command); err != nil {
		return nil, err
	}
	rsp := make([]byte, headerSize, maxResponse)
	if _, err := io.ReadFull(conn, rsp); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, nil
		}
		return nil, err
	}
	size := binary.BigEndian.Uint32(rsp[2:])
	if size < headerSize || size > maxResponse {
		return nil, fmt.Errorf("it announced a response of %d bytes", size)
	}
	rsp = rsp[:size]
	if _, err := io.ReadFull(conn, rsp[headerSize:]); err != nil {
		return nil, err
	}
	return rsp, nil
}

func (*socket) Managed() bool { return false }

func (*socket) Close() error { return nil }
