package lambda

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// Limits of a deployment package (Lambda quotas).
const (
	maxZip      = 50 << 20  // bytes, uploaded
	maxUnpacked = 250 << 20 // bytes
)

func codeSum(zipped []byte) string {
	sum := sha256.Sum256(zipped)
	return base64.StdEncoding.EncodeToString(sum[:])
}

// unpack writes a deployment package into dir, which is as a whole or not at
// all. Code that is there already is the same, because its name is its sum.
func unpack(zipped []byte, dir string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	archive, err := zip.NewReader(bytes.NewReader(zipped), int64(len(zipped)))
	if err != nil {
		return invalid("Could not unzip uploaded file. Please check your file, then try to upload again.")
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return err
	}
	temp, err := os.MkdirTemp(filepath.Dir(dir), ".unpack-")
	if err != nil {
		return err
	}
	var left int64 = maxUnpacked
	for _, f := range archive.File {
		if err := unpackFile(f, temp, &left); err != nil {
			return errors.Join(err, os.RemoveAll(temp))
		}
	}
	return install(temp, dir)
}

// install puts unpacked code in its place. Where another upload of the same
// zip was faster, its code stands there.
func install(temp, dir string) error {
	err := os.Rename(temp, dir)
	if err == nil {
		return nil
	}
	if _, there := os.Stat(dir); there == nil {
		err = nil
	}
	return errors.Join(err, os.RemoveAll(temp))
}

func unpackFile(f *zip.File, dir string, left *int64) error {
	if !filepath.IsLocal(f.Name) {
		return invalid("The deployment package has a file outside of it: %q", f.Name)
	}
	path := filepath.Join(dir, f.Name)
	mode := f.Mode()
	switch {
	case mode.IsDir():
		return os.MkdirAll(path, 0o700)
	case !mode.IsRegular():
		return invalid("The deployment package has %q, which is neither a file nor a folder", f.Name)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	from, err := f.Open()
	if err != nil {
		return invalid("Could not unzip uploaded file. Please check your file, then try to upload again.")
	}
	defer from.Close()
	// The mode is the zip's: a bootstrap that is not executable fails at AWS
	// too. What everybody else may do with it is not.
	to, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode.Perm()&0o700|0o600)
	if err != nil {
		return err
	}
	n, err := io.Copy(to, io.LimitReader(from, *left+1))
	*left -= n
	if err := errors.Join(err, to.Close()); err != nil {
		return fmt.Errorf("unpack %s: %w", f.Name, err)
	}
	if *left < 0 {
		return invalid("Unzipped size must be smaller than %d bytes", maxUnpacked)
	}
	return nil
}
