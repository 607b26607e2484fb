package local

import (
	"bytes"
	"encoding/binary"
	"unicode/utf8"
)

// cursor reads MQTT's data types from the front of rest. bad says that there
// was not enough of it, or that a string was not one; what was read is zero
// then.
//
// The codec's own decoder serves CONNECT only. It panics on a SUBSCRIBE whose
// last filter has no options, reads properties beyond their length, and makes
// 15 allocations of a PUBLISH.
type cursor struct {
	rest []byte
	bad  bool
}

// take is the next n bytes, not copied.
func (c *cursor) take(n int) []byte {
	if n > len(c.rest) {
		c.bad, c.rest = true, nil
		return nil
	}
	b := c.rest[:n]
	c.rest = c.rest[n:]
	return b
}

func (c *cursor) byte() byte {
	if b := c.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (c *cursor) uint16() uint16 {
	if b := c.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (c *cursor) uint32() uint32 {
	if b := c.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

// varint is a variable byte integer, of four bytes at most.
func (c *cursor) varint() int {
	value := 0
	for shift := 0; shift < 28; shift += 7 {
		b := c.byte()
		value |= int(b&0x7F) << shift
		if b < 0x80 {
			return value
		}
	}
	c.bad = true
	return 0
}

// binary is binary data, not copied.
func (c *cursor) binary() []byte { return c.take(int(c.uint16())) }

// text is the bytes of a UTF-8 string, not copied.
func (c *cursor) text() []byte {
	b := c.binary()
	if !utf8.Valid(b) || bytes.IndexByte(b, 0) >= 0 { // [MQTT-1.5.4-1], [MQTT-1.5.4-2]
		c.bad, c.rest = true, nil
		return nil
	}
	return b
}

func (c *cursor) string() string { return string(c.text()) }

// properties cuts off the properties and their length.
func (c *cursor) properties() cursor {
	n := c.varint()
	return cursor{rest: c.take(n), bad: c.bad}
}
