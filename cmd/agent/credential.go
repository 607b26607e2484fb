package main

import (
	"bytes"
	"os"
	"path/filepath"
)

// credential returns a systemd credential (systemd.exec(5), Credentials)
// without the line break at its end; nil where there is none. A command that a
// person runs has no credentials directory, so it looks where the service's
// LoadCredential= does.
func credential(name string) []byte {
	dirs := []string{"/etc/credstore", "/run/credstore", "/usr/lib/credstore"}
	if dir := os.Getenv("CREDENTIALS_DIRECTORY"); dir != "" {
		dirs = []string{dir}
	}
	for _, dir := range dirs {
		if data, err := os.ReadFile(filepath.Join(dir, name)); err == nil {
			return bytes.TrimRight(data, "\r\n")
		}
	}
	return nil
}
