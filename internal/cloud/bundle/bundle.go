// Package bundle is the activator as AWS Lambda takes it: the zips that
// jitrctl carries, and how one is made. The same program gives the same zip,
// byte for byte, so that a plan can tell whether the code in AWS is this one.
package bundle

import (
	"archive/zip"
	"bytes"
	"compress/flate"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"time"
)

//go:embed files
var files embed.FS

// ErrNone is that jitrctl was built without the zip.
var ErrNone = errors.New("this jitrctl was built without the activator's zip")

// FileName is the zip for an architecture, as Lambda names it: arm64 or
// x86_64.
func FileName(arch string) string { return "jitr-activator-" + arch + ".zip" }

// Zip is the one that was built in.
func Zip(arch string) ([]byte, error) {
	data, err := files.ReadFile(path.Join("files", FileName(arch)))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w for %s; build it with 'make build', or give one with --zip FILE", ErrNone, arch)
	}
	return data, err
}

// program is the name that the runtime provided.al2023 starts (Lambda
// developer guide, "Building Lambda functions with Go").
const program = "bootstrap"

// Pack makes the zip of a program.
func Pack(binary []byte) ([]byte, error) {
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	w.RegisterCompressor(zip.Deflate, func(w io.Writer) (io.WriteCloser, error) { return flate.NewWriter(w, flate.BestCompression) })
	if err := put(w, program, 0o755, binary); err != nil {
		return nil, err
	}
	err := w.Close()
	return out.Bytes(), err
}

// Add puts one more file beside the program, as an inventory.
func Add(archive []byte, name string, content []byte) ([]byte, error) {
	r, err := zip.NewReader(bytes.NewReader(archive), int64(len(archive)))
	if err != nil {
		return nil, fmt.Errorf("read the activator's zip: %w", err)
	}
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	for _, f := range r.File {
		if f.Name == name {
			continue
		}
		if err := w.Copy(f); err != nil {
			return nil, fmt.Errorf("read the activator's zip: %w", err)
		}
	}
	if err := put(w, name, 0o644, content); err != nil {
		return nil, err
	}
	err = w.Close()
	return out.Bytes(), err
}

// Check says whether data is a zip that Lambda can start.
func Check(data []byte) error {
	r, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		return fmt.Errorf("it is no zip: %w", err)
	}
	for _, f := range r.File {
		if f.Name != program {
			continue
		}
		if f.Mode()&0o111 == 0 {
			return fmt.Errorf("%s in it is not executable; its mode has to be 0755", program)
		}
		return nil
	}
	return fmt.Errorf("it has no %s, which AWS Lambda starts; 'make build' makes one that has", program)
}

// put writes a file whose time says nothing: the zip format's first day.
func put(w *zip.Writer, name string, mode fs.FileMode, content []byte) error {
	h := &zip.FileHeader{Name: name, Method: zip.Deflate, Modified: time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)}
	h.SetMode(mode)
	f, err := w.CreateHeader(h)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	return err
}
