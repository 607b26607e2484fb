package buffer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// stamp is what the buffer knows of a message beside its content: which one it
// is, and when it was handed in.
type stamp struct {
	stream uint64 // of the process that took it
	seq    uint64 // within stream, from 1
	boot   uint64 // which boot of the machine: a hash of its id, 0 for unknown
	bootMS int64  // time since that boot
	wallMS int64  // wall clock, Unix milliseconds
	floor  bool   // the wall clock was not below the clock floor
}

// wall is the wall clock at the stamp, zero where it was certainly wrong.
func (s stamp) wall() time.Time {
	if !s.floor {
		return time.Time{}
	}
	return time.UnixMilli(s.wallMS).UTC()
}

func (s stamp) streamID() string { return fmt.Sprintf("%016x", s.stream) }

// A record is a message with its stamp, as the segment log keeps it:
//
//	version 1 | flags | stream 8 | boot 8 | seq | boot ms | wall ms | expiry |
//	topic | content type | response topic | correlation data |
//	number of user properties | name, value … | payload
//
// Numbers after boot are varints (wall ms a signed one); strings have their
// length before them as a varint, but for the payload, which is the rest.
const (
	recordVersion = 1

	flagText  = 1 << 0
	flagFloor = 1 << 1
)

// errRecord: what the log holds is not a record that this program can read.
var errRecord = errors.New("not a record of a known version")

// appendRecord encodes m to the end of b.
func appendRecord(b []byte, m *Message, s stamp) []byte {
	var flags byte
	if m.Text {
		flags |= flagText
	}
	if s.floor {
		flags |= flagFloor
	}
	b = append(b, recordVersion, flags)
	b = binary.BigEndian.AppendUint64(b, s.stream)
	b = binary.BigEndian.AppendUint64(b, s.boot)
	b = binary.AppendUvarint(b, s.seq)
	b = binary.AppendUvarint(b, uint64(s.bootMS))
	b = binary.AppendVarint(b, s.wallMS)
	b = binary.AppendUvarint(b, uint64(m.Expiry))
	b = appendString(b, m.Topic)
	b = appendString(b, m.ContentType)
	b = appendString(b, m.ResponseTopic)
	b = appendString(b, string(m.CorrelationData))
	b = binary.AppendUvarint(b, uint64(len(m.UserProperties)))
	for _, p := range m.UserProperties {
		b = appendString(appendString(b, p[0]), p[1])
	}
	return append(b, m.Payload...)
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// parseRecord decodes one; nothing of b is kept.
func parseRecord(b []byte) (m Message, s stamp, err error) {
	r := fields{rest: b}
	if r.byte() != recordVersion {
		return Message{}, stamp{}, errRecord
	}
	flags := r.byte()
	m.Text, s.floor = flags&flagText != 0, flags&flagFloor != 0
	s.stream, s.boot = r.uint64(), r.uint64()
	s.seq, s.bootMS, s.wallMS = r.uvarint(), int64(r.uvarint()), r.varint()
	m.Expiry = uint32(r.uvarint())
	m.Topic, m.ContentType, m.ResponseTopic = r.string(), r.string(), r.string()
	if data := r.string(); data != "" {
		m.CorrelationData = []byte(data)
	}
	properties := r.uvarint()
	if properties > uint64(len(r.rest)) { // each has two bytes at least
		return Message{}, stamp{}, errRecord
	}
	for range properties {
		m.UserProperties = append(m.UserProperties, [2]string{r.string(), r.string()})
	}
	m.Payload = append([]byte{}, r.rest...)
	if r.short {
		return Message{}, stamp{}, errRecord
	}
	return m, s, nil
}

// fields reads from the front of rest; short says that it was not long enough.
type fields struct {
	rest  []byte
	short bool
}

func (f *fields) take(n uint64) []byte {
	if n > uint64(len(f.rest)) {
		f.short, f.rest = true, nil
		return nil
	}
	b := f.rest[:n]
	f.rest = f.rest[n:]
	return b
}

func (f *fields) byte() byte {
	if b := f.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (f *fields) uint64() uint64 {
	if b := f.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

func (f *fields) uvarint() uint64 {
	v, n := binary.Uvarint(f.rest)
	if n <= 0 {
		f.short, f.rest = true, nil
		return 0
	}
	f.rest = f.rest[n:]
	return v
}

func (f *fields) varint() int64 {
	v, n := binary.Varint(f.rest)
	if n <= 0 {
		f.short, f.rest = true, nil
		return 0
	}
	f.rest = f.rest[n:]
	return v
}

func (f *fields) string() string { return string(f.take(f.uvarint())) }
