package seglog

import (
	"encoding/binary"
	"hash/crc32"
)

const (
	recordHeader = 20
	kindMessage  = 0xD7
	kindCursor   = 0xC3
	cursorSize   = recordHeader + 8

	// MaxPayload is the longest payload, in bytes: twice the 128 KiB that AWS
	// IoT Core takes, so that a message fits with all that is kept beside it.
	MaxPayload = 256 << 10
)

// castagnoli is the polynomial that processors have an instruction for.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// record is one that was found in a segment.
type record struct {
	kind    byte
	seq     uint64
	commit  uint32
	payload []byte // part of the scanned buffer
}

// cursor is what a cursor record says.
func (r record) cursor() uint64 { return binary.LittleEndian.Uint64(r.payload) }

// appendRecord adds a record to b. saltCRC is the checksum of the salt.
func appendRecord(b []byte, saltCRC uint32, kind byte, seq uint64, commit uint32, payload []byte) []byte {
	at := len(b)
	b = binary.LittleEndian.AppendUint32(b, uint32(kind)|uint32(len(payload))<<8)
	b = binary.LittleEndian.AppendUint64(b, seq)
	b = binary.LittleEndian.AppendUint32(b, commit)
	b = binary.LittleEndian.AppendUint32(b, checksum(saltCRC, b[at:], payload))
	return append(b, payload...)
}

func appendCursor(b []byte, saltCRC uint32, last uint64, commit uint32, cursor uint64) []byte {
	return appendRecord(b, saltCRC, kindCursor, last, commit, binary.LittleEndian.AppendUint64(nil, cursor))
}

func checksum(saltCRC uint32, header, payload []byte) uint32 {
	return crc32.Update(crc32.Update(saltCRC, castagnoli, header[:16]), castagnoli, payload)
}

// scanner finds the records of one use of a segment in what was read of it,
// and steps over what is none.
type scanner struct {
	saltCRC uint32
	seq     uint64 // of the last message, or one less than the first may have
	commit  uint32 // of the last record, or the first that may be
	room    uint64 // how far sequence numbers and commits can have come in one segment
}

// scanner finds the records of a segment from the first one on.
func (h header) scanner() scanner {
	return scanner{saltCRC: h.saltCRC(), seq: h.first - 1, commit: h.commit, room: uint64(h.size / recordHeader)}
}

// next finds the first record in b, and where it begins and ends there. Where
// there is none, ok is false. A start above 0 means that there is a bad piece
// before it.
//
// A segment is short and its records are dense, so looking at each byte is
// quick; what may not stand where it stands (a number that was there before,
// an older commit) is turned away before its checksum is made.
func (s *scanner) next(b []byte) (r record, start, end int, ok bool) {
	for start = 0; start+recordHeader <= len(b); start++ {
		if b[start] != kindMessage && b[start] != kindCursor {
			continue
		}
		if r, end, ok = s.at(b, start); ok {
			s.commit, s.seq = r.commit, r.seq
			return r, start, end, true
		}
	}
	return record{}, len(b), len(b), false
}

// at is the record that begins at start, if one does.
func (s *scanner) at(b []byte, start int) (r record, end int, ok bool) {
	word := binary.LittleEndian.Uint32(b[start:])
	length := int(word >> 8)
	end = start + recordHeader + length
	if length > MaxPayload || end > len(b) {
		return r, 0, false
	}
	r = record{
		kind:    byte(word),
		seq:     binary.LittleEndian.Uint64(b[start+4:]),
		commit:  binary.LittleEndian.Uint32(b[start+12:]),
		payload: b[start+recordHeader : end],
	}
	switch {
	case r.commit < s.commit, uint64(r.commit-s.commit) > s.room, r.seq < s.seq, r.seq-s.seq > s.room,
		r.kind == kindMessage && r.seq == s.seq, r.kind == kindCursor && length != 8:
		return r, 0, false
	}
	return r, end, checksum(s.saltCRC, b[start:], r.payload) == binary.LittleEndian.Uint32(b[start+16:])
}
