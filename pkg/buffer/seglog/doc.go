// Package seglog keeps messages on a card or disk until they are acknowledged:
// an append-only log in segments of fixed size, which are used again.
//
// It promises:
//
//   - What Append has returned as safe is read again after a crash or a power
//     cut, in order, until it is acknowledged.
//   - An acknowledgement rides on the next Append, or on Flush. After a crash
//     nothing comes back up to the last one that did; what was acknowledged
//     later may come back once more.
//   - Damage costs the record that it hit. The reader goes on at the next good
//     one and names the sequence numbers that are missing ([Entry.Lost]); a
//     copy of the bad piece is put into the folder "bad".
//   - A full or failing disk is a [State], not an end: each Append tries anew.
//   - Memory does not grow with what is stored: a few words a segment, and one
//     segment's bytes for each Reader.
//
// It does not promise what no file can: a card that says "flushed" and lies.
// And the last commit before a crash cannot be told from one that was damaged
// later: where it is not whole, it is cut off before the first bad record, and
// nothing is said. Close writes a mark behind it, so this is about crashes only.
//
// # Format
//
// All numbers are little-endian. A folder holds segments, NAME.seg. The name
// says nothing: order is by the use number in the header. A segment is written
// from front to back:
//
//	header | record | record | … | unused | copy of the header
//
// Header, 64 bytes, in the first and in the last bytes of the file:
//
//	 0  magic "JITRSEG" and the version of the format, 1
//	 8  use: one more than in any segment before
//	16  salt: random, new for each use; part of each record's checksum, so that
//	    what an older use left behind is never taken for a record
//	24  first: the sequence number of the first record. It overrules what older
//	    uses hold from there on: that was given up after a failed fsync
//	32  cursor: all up to it was acknowledged when this use began
//	40  commit: the number of the first commit
//	44  size of the segment
//	48  zero
//	60  CRC-32C of the above
//
// Record, 20 bytes and its payload:
//
//	 0  kind, 0xD7 for a message, 0xC3 for a cursor
//	 1  length of the payload, 3 bytes
//	 4  sequence number. In a cursor: of the last message before it
//	12  commit: records of one fdatasync have the same one. It only grows, so a
//	    record of a later commit proves that the earlier one was fsynced
//	16  CRC-32C of the salt, the 16 bytes above and the payload
//
// The payload of a cursor is the sequence number up to which all is
// acknowledged, 8 bytes.
//
// # What is written when
//
// A new segment is filled with zeros, given a header, fsynced, renamed to its
// name, and the folder is fsynced. A segment whose records are all acknowledged
// is used again: the new header goes first, with a flush of its own, because it
// carries the cursor that makes its old records superfluous. Each commit is one
// write and one fdatasync, into blocks that exist already, so that the file
// system has no metadata to write.
//
// A failed fsync says nothing about what is on the disk, and a second one that
// succeeds says no more: the kernel may have dropped the pages. So the segment
// is given up and the commit is written again into another one.
package seglog
