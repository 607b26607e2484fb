package seglog

import (
	"encoding/binary"
	"hash/crc32"
)

const (
	headerSize    = 64
	magic         = "JITRSEG"
	formatVersion = 1
)

// header is the head of a segment; see the package comment.
type header struct {
	use    uint64
	salt   [8]byte
	first  uint64
	cursor uint64
	commit uint32
	size   int
}

func (h header) encode() []byte {
	b := append(make([]byte, 0, headerSize), magic...)
	b = append(b, formatVersion)
	b = binary.LittleEndian.AppendUint64(b, h.use)
	b = append(b, h.salt[:]...)
	b = binary.LittleEndian.AppendUint64(b, h.first)
	b = binary.LittleEndian.AppendUint64(b, h.cursor)
	b = binary.LittleEndian.AppendUint32(b, h.commit)
	b = binary.LittleEndian.AppendUint32(b, uint32(h.size))
	b = append(b, make([]byte, 12)...)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// saltCRC is where the checksum of each record begins.
func (h header) saltCRC() uint32 { return crc32.Checksum(h.salt[:], castagnoli) }

// decodeHeader reads a header of this version. newer: it is none, but looks
// like the header of a later version.
func decodeHeader(b []byte) (h header, ok, newer bool) {
	if len(b) < headerSize || string(b[:7]) != magic {
		return h, false, false
	}
	if b[7] != formatVersion || crc32.Checksum(b[:60], castagnoli) != binary.LittleEndian.Uint32(b[60:]) {
		return h, false, b[7] > formatVersion
	}
	h = header{
		use:    binary.LittleEndian.Uint64(b[8:]),
		first:  binary.LittleEndian.Uint64(b[24:]),
		cursor: binary.LittleEndian.Uint64(b[32:]),
		commit: binary.LittleEndian.Uint32(b[40:]),
		size:   int(binary.LittleEndian.Uint32(b[44:])),
	}
	copy(h.salt[:], b[16:])
	return h, true, false
}

// headerOf is the header of a whole segment, from its front or its copy at the
// end: the one of the later use, since a crash can come between writing the
// two. bad: one of the two is none, although both are always written.
func headerOf(segment []byte) (h header, ok, bad, newer bool) {
	front, ok1, newer1 := decodeHeader(segment)
	back, ok2, newer2 := decodeHeader(segment[max(0, len(segment)-headerSize):])
	switch {
	case ok1 && ok2:
		if back.use > front.use {
			front = back
		}
		return front, true, false, false
	case ok1:
		return front, true, true, false
	case ok2:
		return back, true, true, false
	}
	return header{}, false, !newer1, newer1 || newer2
}
