package ca

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jitr-agent/jitr-agent/internal/ca/inventory"
	"github.com/jitr-agent/jitr-agent/internal/certs"
)

// Adopted says what Adopt found.
type Adopted struct {
	Certificates int      // put into the inventory
	Unseen       int      // known from index.txt only
	Known        int      // were there already
	Foreign      []string // files with a certificate that another CA signed; they are passed over
	ClosedKey    string   // the key's file, where others could read it until now
}

// Adopt takes an openssl CA into use: it checks that key and certificate are a
// pair that can sign, closes the key's file to others, and puts into the
// inventory what 'openssl ca' left in the directory (index.txt, newcerts,
// certs, crlnumber) and the certificates at paths, which may be files and
// folders. What is known already stays as it is, so it can be given again.
func (c *CA) Adopt(ctx context.Context, paths []string, now time.Time) (*Adopted, error) {
	if _, err := c.signer(now); err != nil {
		return nil, err
	}
	a := &Adopted{}
	if info, err := os.Stat(c.keyFile); err != nil {
		return nil, err
	} else if info.Mode().Perm()&0o077 != 0 {
		if err := os.Chmod(c.keyFile, 0o600); err != nil {
			return nil, err
		}
		a.ClosedKey = c.keyFile
	}
	for _, name := range []string{"newcerts", "certs"} {
		if dir := filepath.Join(c.dir, name); isDir(dir) {
			paths = append(paths, dir)
		}
	}
	files, err := candidates(paths)
	if err != nil {
		return nil, err
	}
	index, err := readIfThere(filepath.Join(c.dir, "index.txt"))
	if err != nil {
		return nil, err
	}
	entries, err := inventory.ParseIndex(index, now)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(c.dir, "index.txt"), err)
	}
	last, err := lastCRLNumber(filepath.Join(c.dir, "crlnumber"))
	if err != nil {
		return nil, err
	}

	st, err := c.open(ctx, now)
	if err != nil {
		return nil, err
	}
	defer st.Close()
	err = st.Update(func(tx *inventory.Tx) error {
		for _, file := range files {
			if err := c.adoptFile(tx, a, file, now); err != nil {
				return fmt.Errorf("%s: %w", file.file, err)
			}
		}
		for _, e := range entries {
			added, err := tx.AddUnseen(e)
			if err != nil {
				return err
			}
			if added {
				a.Unseen++
			}
		}
		return tx.RaiseCRLNumber(last)
	})
	if err != nil {
		return nil, withRoom(err)
	}
	return a, nil
}

// adoptFile puts the first certificate in file, the device's, into the
// inventory.
func (c *CA) adoptFile(tx *inventory.Tx, a *Adopted, from candidate, now time.Time) error {
	data, err := os.ReadFile(from.file)
	if err != nil {
		return err
	}
	chain, err := certs.ParseChain(data)
	switch {
	case errors.Is(err, certs.ErrNoCertificate) && !from.named:
		return nil // a key, say, that lies beside them
	case err != nil:
		return fmt.Errorf("%w; mend it, or take it out of what is to be adopted", err)
	}
	cert := chain[0]
	switch {
	case cert.Equal(c.Certificate()):
		return nil
	case !c.signed(cert):
		a.Foreign = append(a.Foreign, from.file)
		return nil
	}
	added, err := tx.Add(cert, inventory.Imported, now)
	if added {
		a.Certificates++
	} else {
		a.Known++
	}
	return err
}

// candidate is a file that may hold a certificate.
type candidate struct {
	file  string
	named bool // by the user, so it must hold one
}

// candidates are the files themselves, and of folders what is called like a
// certificate.
func candidates(paths []string) (files []candidate, err error) {
	for _, path := range paths {
		if !isDir(path) {
			files = append(files, candidate{path, true})
			continue
		}
		entries, err := os.ReadDir(path)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			switch filepath.Ext(e.Name()) {
			case ".crt", ".pem", ".cer":
				if !e.IsDir() {
					files = append(files, candidate{file: filepath.Join(path, e.Name())})
				}
			}
		}
	}
	return files, nil
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// lastCRLNumber reads openssl's crlnumber, which holds the next one.
func lastCRLNumber(file string) (*big.Int, error) {
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return new(big.Int), nil
	}
	if err != nil {
		return nil, err
	}
	next, ok := new(big.Int).SetString(strings.TrimSpace(string(data)), 16)
	if !ok || next.Sign() < 0 {
		return nil, fmt.Errorf("%s: it holds %q, and no hexadecimal number", file, strings.TrimSpace(string(data)))
	}
	if next.Sign() > 0 {
		next.Sub(next, big.NewInt(1))
	}
	return next, nil
}
