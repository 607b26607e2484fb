// Command peers measures bbolt and SQLite as the segment log is measured: what
// a message costs the card. They have a module of their own, so that the
// product's does not name them.
package main

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"

	bolt "go.etcd.io/bbolt"
	_ "modernc.org/sqlite"

	"github.com/jitr-agent/jitr-agent/test/flash"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := measure(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "peers:", err)
		os.Exit(1)
	}
}

func measure(ctx context.Context) error {
	for _, peer := range []struct {
		name string
		open func(path string) (flash.Store, error)
	}{{"bbolt", openBolt}, {"SQLite WAL, FULL", openSQLite}} {
		for _, load := range [][2]int{{1, 4000}, {10, 20000}, {100, 20000}} {
			c, err := one(ctx, peer.open, load[1], load[0])
			if err != nil {
				return fmt.Errorf("%s: %w", peer.name, err)
			}
			fmt.Printf("%s, %3d a commit: %6.0f B a message, %6.0f B in new files, %4.1f B an acknowledgement\n", peer.name, load[0], c.Steady, c.FirstUse, c.Ack)
		}
	}
	return nil
}

func one(ctx context.Context, open func(string) (flash.Store, error), n, perBatch int) (c flash.Cost, err error) {
	dir, err := os.MkdirTemp("", "flash")
	if err != nil {
		return c, err
	}
	defer os.RemoveAll(dir)
	d, err := flash.NewDisk(ctx, dir)
	if err != nil {
		return c, err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	s, err := open(filepath.Join(d.Folder, "db"))
	if err != nil {
		return c, err
	}
	return d.Measure(ctx, s, n, perBatch)
}

type boltStore struct{ db *bolt.DB }

var bucket = []byte("queue")

func openBolt(path string) (flash.Store, error) {
	db, err := bolt.Open(path, 0o600, nil)
	if err != nil {
		return nil, err
	}
	return boltStore{db}, db.Update(func(tx *bolt.Tx) error {
		_, err := tx.CreateBucketIfNotExists(bucket)
		return err
	})
}

func (s boltStore) Append(batch [][]byte) error {
	return s.db.Update(func(tx *bolt.Tx) error {
		b := tx.Bucket(bucket)
		b.FillPercent = 1 // keys only grow
		for _, p := range batch {
			n, err := b.NextSequence()
			if err != nil {
				return err
			}
			if err := b.Put(binary.BigEndian.AppendUint64(nil, n), p); err != nil {
				return err
			}
		}
		return nil
	})
}

func (s boltStore) Ack(n int) error {
	return s.db.Update(func(tx *bolt.Tx) error {
		c := tx.Bucket(bucket).Cursor()
		for range n {
			if k, _ := c.First(); k == nil {
				return errors.New("it is empty")
			}
			if err := c.Delete(); err != nil {
				return err
			}
		}
		return nil
	})
}

func (s boltStore) Close() error { return s.db.Close() }

type sqlStore struct{ db *sql.DB }

func openSQLite(path string) (flash.Store, error) {
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)")
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	_, err = db.Exec("create table queue (seq integer primary key autoincrement, payload blob)")
	return sqlStore{db}, err
}

func (s sqlStore) Append(batch [][]byte) error {
	tx, err := s.db.Begin()
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	for _, p := range batch {
		if _, err := tx.Exec("insert into queue (payload) values (?)", p); err != nil {
			return err
		}
	}
	return tx.Commit()
}

func (s sqlStore) Ack(n int) error {
	_, err := s.db.Exec("delete from queue where seq in (select seq from queue order by seq limit ?)", n)
	return err
}

func (s sqlStore) Close() error { return s.db.Close() }
