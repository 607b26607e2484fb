package identity

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// Stamp differs when the files behind the identity do, or when the node of its
// TPM comes or goes. It costs a few stat(2) calls and opens nothing.
func Stamp(opts Options) string {
	var b strings.Builder
	stamp(&b, opts.path(KeyFile))
	stamp(&b, opts.path(CertFile))
	if filepath.IsAbs(opts.TPMDevice) {
		stamp(&b, opts.TPMDevice)
	}
	return b.String()
}

// NextStamp is the same for the files of LoadNext.
func NextStamp(opts Options) string {
	var b strings.Builder
	stamp(&b, opts.path(NextKeyFile))
	stamp(&b, opts.path(NextCertFile))
	return b.String()
}

func stamp(b *strings.Builder, path string) {
	info, err := os.Stat(path)
	if err != nil {
		b.WriteString("-;")
		return
	}
	var inode uint64
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		inode = st.Ino
	}
	if info.Mode()&os.ModeDevice != 0 {
		// A device's times change with its use.
		fmt.Fprintf(b, "%d,%v;", inode, info.Mode())
		return
	}
	fmt.Fprintf(b, "%d,%v,%d,%d;", inode, info.Mode(), info.Size(), info.ModTime().UnixNano())
}
