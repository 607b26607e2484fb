// Package inventory is what a CA remembers: every certificate that it has
// made, by serial number, by name, by key and by request, which of them are
// revoked, and the number of the last CRL.
//
// It promises that an Update is there wholly or not at all, also after kill
// -9 and a power cut, and that it is on the disk when Update returns. So
// whoever hands out a certificate only after its Update never has one out
// there that the inventory does not know.
//
// It is one bbolt file. bbolt is pure Go, does commit by commit what SQLite
// would do here at a tenth of the size, and finds one certificate among
// 100,000 without reading the others. What the gateway's buffer holds against
// it (bytes written for each message, design of pkg/buffer) does not matter on
// a desk that signs some thousand requests in a run. The file is not for
// people: 'jitrctl ca list' writes it as a table, CSV, JSON, or as openssl's
// own index.txt.
//
// The caller sees to it that one process at a time has a directory's
// inventory open. An Inventory is safe for concurrent use.
package inventory

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/jitr-agent/jitr-agent/internal/atomicfile"
)

// File is the inventory's name in the CA's directory.
const File = "inventory.db"

// format is the version of the file's layout.
const format = "1"

// openTimeout is how long to wait for a process that has the file open though
// the caller is alone here: a backup tool, or a jitrctl of another version.
const openTimeout = 10 * time.Second

// Inventory is an open inventory.
type Inventory struct {
	db   *bolt.DB
	path string
}

// Open opens the inventory of the CA in dir. Where there is none it makes
// one, and has fill, which may be nil, put in what is known already; it appears with all of that
// or not at all.
//
// A file that bbolt cannot read is ErrDamaged, one of a later format ErrNewer.
func Open(dir string, fill func(*Tx) error) (*Inventory, error) {
	path := filepath.Join(dir, File)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		if err := create(path, fill); err != nil {
			return nil, err
		}
	}
	inv, err := open(path)
	if err != nil {
		return nil, err
	}
	err = inv.View(func(tx *Tx) error {
		meta := tx.tx.Bucket(bucketMeta)
		if meta == nil {
			return inv.damaged(errors.New("it is another program's file"))
		}
		if got := string(meta.Get(keyFormat)); got != format {
			return fmt.Errorf("%s: %w (format %q, and this one knows %q); use that version", path, ErrNewer, got, format)
		}
		return nil
	})
	if err != nil {
		return nil, errors.Join(err, inv.Close())
	}
	return inv, nil
}

// create makes the file under a temporary name and renames it when it is
// complete.
func create(path string, fill func(*Tx) error) (err error) {
	temporary := filepath.Join(filepath.Dir(path), "."+File+".tmp")
	if err := os.Remove(temporary); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err // what a killed process left behind
	}
	inv, err := open(temporary)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(temporary)
		}
	}()
	err = inv.Update(func(tx *Tx) error {
		for _, name := range buckets() {
			if _, err := tx.tx.CreateBucket(name); err != nil {
				return err
			}
		}
		if err := tx.tx.Bucket(bucketMeta).Put(keyFormat, []byte(format)); err != nil {
			return err
		}
		if fill == nil {
			return nil
		}
		return fill(tx)
	})
	if err := errors.Join(err, handOver(temporary), inv.Close()); err != nil {
		return err
	}
	return atomicfile.Rename(temporary, path)
}

func handOver(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return atomicfile.HandOver(f, filepath.Dir(path))
}

func open(path string) (inv *Inventory, err error) {
	inv = &Inventory{path: path}
	defer inv.recovered(&err)()
	inv.db, err = bolt.Open(path, 0o600, &bolt.Options{
		Timeout:      openTimeout,
		FreelistType: bolt.FreelistMapType,
	})
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return nil, fmt.Errorf("%s: another process has had it open for %s; wait until it has ended and try again", path, openTimeout)
	case errors.Is(err, bolterrors.ErrInvalid), errors.Is(err, bolterrors.ErrChecksum), errors.Is(err, bolterrors.ErrVersionMismatch):
		return nil, inv.damaged(err)
	case err != nil:
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	return inv, nil
}

// Close ends the use of the inventory.
func (inv *Inventory) Close() error { return inv.db.Close() }

// View calls f with a consistent picture.
func (inv *Inventory) View(f func(*Tx) error) (err error) {
	defer inv.recovered(&err)()
	return inv.db.View(func(tx *bolt.Tx) error { return f(&Tx{tx}) })
}

// Update calls f, and makes what it did last: all of it where f returns nil,
// nothing otherwise.
func (inv *Inventory) Update(f func(*Tx) error) (err error) {
	defer inv.recovered(&err)()
	return inv.db.Update(func(tx *bolt.Tx) error { return f(&Tx{tx}) })
}

// recovered turns what bbolt does about a damaged page (it panics, or reads
// beyond the end of a file that was cut off) into an error.
func (inv *Inventory) recovered(err *error) func() {
	before := debug.SetPanicOnFault(true)
	return func() {
		debug.SetPanicOnFault(before)
		if p := recover(); p != nil {
			*err = inv.damaged(fmt.Errorf("%v", p))
		}
	}
}

func (inv *Inventory) damaged(why error) error {
	return fmt.Errorf("%s: %w: %w; restore it from the backup of the CA's directory", inv.path, ErrDamaged, why)
}
