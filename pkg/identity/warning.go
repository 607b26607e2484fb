package identity

import (
	"bytes"
	"fmt"
	"os"
	"strings"
)

// Warning is about something that works and should not stay so.
type Warning struct {
	ID     string // of its event, one of those below
	Object string // the file or directory
	Why    string
}

// What a Warning can be about.
const (
	WarnFileKey     = "file-key"
	WarnKeyReadable = "key-readable"
	WarnKeyCanLock  = "key-can-lock"
	WarnKeyCopied   = "key-copied"
	WarnVolatile    = "state-dir-volatile"
)

// sentences are for commands; the journal has its own. %[1]s is the object and
// %[2]s why.
//
//nolint:gochecknoglobals // a table, never written
var sentences = map[string]string{
	WarnFileKey:     "%[1]s is a file that can be copied: %[2]s; fit a TPM before enrolling where that matters",
	WarnKeyReadable: "%[1]s can be read by other users: %[2]s; run chmod 600 %[1]s",
	WarnKeyCanLock:  "the TPM may lock %[1]s after some power cuts: %[2]s; make the key with jitr-agent csr",
	WarnKeyCopied:   "%[1]s comes from another board: %[2]s; where the storage was copied, set device.key and device.crt aside and enrol this gateway anew with jitr-agent csr; where the board was replaced, write its serial number into the first line of that file",
	WarnVolatile:    "what is written to %[1]s is lost at the next restart: %[2]s; mount a file system there that lasts, or switch the overlay off with raspi-config",
}

// String is a whole sentence with what to do.
func (w Warning) String() string { return fmt.Sprintf(sentences[w.ID], w.Object, w.Why) }

// boardLine is the line before a file key's PEM block that names the board
// which it was made on. PEM readers pass over text before a block.
const boardLine = "Board serial number: "

// warnings are those about the key and its file.
func (k *deviceKey) warnings(opts Options) (all []Warning) {
	warn := func(id, why string) { all = append(all, Warning{id, k.path, why}) }
	if k.tpm != nil && !k.tpm.NoDA() {
		warn(WarnKeyCanLock, "another program made it, without noDA")
	}
	if k.file == nil {
		return all
	}
	if opts.Key == "auto" {
		if sign, err := tpmExpected(opts.Root); err == nil && sign == "" {
			warn(WarnFileKey, "there is no sign of a TPM on this gateway")
		} else {
			warn(WarnFileKey, "it was made before this gateway had its TPM")
		}
	}
	if info, err := os.Stat(k.path); err == nil && info.Mode().Perm()&0o077 != 0 {
		warn(WarnKeyReadable, fmt.Sprintf("its mode is %04o", info.Mode().Perm()))
	}
	if made := k.board(); made != "" {
		if here, _ := boardSerial(opts.Root); here != "" && here != made {
			warn(WarnKeyCopied, fmt.Sprintf("it was made on the one with serial number %s, and this one has %s", made, here))
		}
	}
	return all
}

// board is the serial number of the board that a file key was made on; "" where
// the file does not tell.
func (k *deviceKey) board() string {
	preamble, _, _ := bytes.Cut(k.data, []byte("-----BEGIN"))
	for line := range strings.Lines(string(preamble)) {
		if serial, ok := strings.CutPrefix(strings.TrimSpace(line), strings.TrimSpace(boardLine)); ok {
			return strings.TrimSpace(serial)
		}
	}
	return ""
}
