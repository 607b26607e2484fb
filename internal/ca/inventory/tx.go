package inventory

import (
	"bytes"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"iter"
	"math/big"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"
)

// The buckets. "of" is what leads to a serial number, which leads to the rest.
var (
	bucketEntry       = []byte("entry")             // serial → Entry as JSON
	bucketCertificate = []byte("certificate")       // serial → DER
	bucketRequest     = []byte("newest of request") // Request → serial
	bucketID          = []byte("of certificate id") // SHA-256 → serial
	bucketKey         = []byte("of key")            // Key + serial → nothing
	bucketName        = []byte("of name")           // name + 0 + serial → nothing
	bucketMeta        = []byte("meta")

	keyFormat    = []byte("format")
	keyCRLNumber = []byte("crl number") // of the last CRL, big-endian
)

func buckets() [][]byte {
	return [][]byte{bucketEntry, bucketCertificate, bucketRequest, bucketID, bucketKey, bucketName, bucketMeta}
}

// Tx is a transaction. It is of use only inside the function that it was given
// to.
type Tx struct{ tx *bolt.Tx }

// Add puts in a certificate and makes it the newest for its request; one that
// is imported only where it began later than another imported one, so that
// what was signed here stays what is handed out. A certificate that is there
// already changes nothing; another one under its serial number is ErrTaken.
// Where the entry came from an index without its certificate, the certificate
// is added to it.
func (t *Tx) Add(c *x509.Certificate, origin Origin, now time.Time) (added bool, err error) {
	e := entryOf(c, origin, now)
	known, err := t.BySerial(e.Serial)
	if err != nil {
		return false, err
	}
	switch {
	case known == nil:
	case known.CertificateID == e.CertificateID:
		return false, nil
	case known.CertificateID != "":
		return false, fmt.Errorf("%w: %s is %q, certificate id %s", ErrTaken, e.Serial, known.Name, known.CertificateID)
	default:
		e.RevokedAt, e.Reason = known.RevokedAt, known.Reason
		if err := t.tx.Bucket(bucketName).Delete(nameRow(known)); err != nil {
			return false, err
		}
	}
	serial := e.Serial.bytes()
	id, err := hex.DecodeString(e.CertificateID)
	if err != nil {
		return false, err
	}
	key, request := KeyOf(c.RawSubjectPublicKeyInfo), RequestOf(c.RawSubjectPublicKeyInfo, c.RawSubject)
	if err := t.put(e); err != nil {
		return false, err
	}
	for _, row := range []struct{ bucket, key, value []byte }{
		{bucketCertificate, serial, c.Raw},
		{bucketID, id, serial},
		{bucketKey, append(key[:], serial...), nil},
	} {
		if err := t.tx.Bucket(row.bucket).Put(row.key, row.value); err != nil {
			return false, err
		}
	}
	newest, err := t.ByRequest(request)
	if err != nil {
		return false, err
	}
	if newest != nil && origin == Imported && (newest.Origin == Signed || !newest.NotBefore.Before(e.NotBefore)) {
		return true, nil
	}
	return true, t.tx.Bucket(bucketRequest).Put(request[:], serial)
}

// AddUnseen puts in what an index knows of a certificate that is not there.
// Where the serial number is known already it takes over a revocation only.
func (t *Tx) AddUnseen(e *Entry) (added bool, err error) {
	known, err := t.BySerial(e.Serial)
	if err != nil {
		return false, err
	}
	if known == nil {
		return true, t.put(e)
	}
	if known.RevokedAt == nil && e.RevokedAt != nil {
		known.RevokedAt, known.Reason = e.RevokedAt, e.Reason
		return false, t.put(known)
	}
	return false, nil
}

// Revoke marks the certificate as revoked. One that is revoked already stays
// as it is: the first time and reason count.
func (t *Tx) Revoke(serial Serial, at time.Time, reason Reason) error {
	e, err := t.BySerial(serial)
	if err != nil {
		return err
	}
	if e == nil {
		return fmt.Errorf("%w: %s", ErrUnknown, serial)
	}
	if e.RevokedAt != nil {
		return nil
	}
	at = at.UTC().Truncate(time.Second)
	e.RevokedAt, e.Reason = &at, reason
	return t.put(e)
}

// NextCRLNumber is one more than the last one, and is the last one from now
// on.
func (t *Tx) NextCRLNumber() (*big.Int, error) {
	n := new(big.Int).SetBytes(t.tx.Bucket(bucketMeta).Get(keyCRLNumber))
	n.Add(n, big.NewInt(1))
	return n, t.tx.Bucket(bucketMeta).Put(keyCRLNumber, n.Bytes())
}

// RaiseCRLNumber makes n the last CRL's number, unless it is higher already.
func (t *Tx) RaiseCRLNumber(n *big.Int) error {
	if last := new(big.Int).SetBytes(t.tx.Bucket(bucketMeta).Get(keyCRLNumber)); last.Cmp(n) >= 0 {
		return nil
	}
	return t.tx.Bucket(bucketMeta).Put(keyCRLNumber, n.Bytes())
}

// BySerial is the entry with that serial number, nil where there is none.
func (t *Tx) BySerial(serial Serial) (*Entry, error) {
	return decode(serial.bytes(), t.tx.Bucket(bucketEntry).Get(serial.bytes()))
}

// ByID is the entry with that certificateId (32 bytes), nil where there is
// none.
func (t *Tx) ByID(id []byte) (*Entry, error) {
	serial := t.tx.Bucket(bucketID).Get(id)
	if serial == nil {
		return nil, nil
	}
	return t.indexed(serial)
}

// ByRequest is the newest certificate for the request, nil where there is
// none.
func (t *Tx) ByRequest(r Request) (*Entry, error) {
	serial := t.tx.Bucket(bucketRequest).Get(r[:])
	if serial == nil {
		return nil, nil
	}
	return t.indexed(serial)
}

// ByKey are all certificates for that key.
func (t *Tx) ByKey(k Key) ([]*Entry, error) { return t.prefixed(bucketKey, k[:]) }

// ByName are all certificates with that common name.
func (t *Tx) ByName(name string) ([]*Entry, error) {
	return t.prefixed(bucketName, append([]byte(name), 0))
}

// Certificate is the certificate itself, nil where only an index knew it.
func (t *Tx) Certificate(serial Serial) (*x509.Certificate, error) {
	der := t.tx.Bucket(bucketCertificate).Get(serial.bytes())
	if der == nil {
		return nil, nil
	}
	return x509.ParseCertificate(bytes.Clone(der)) // bbolt's memory ends with the transaction
}

// All yields every entry, in the order of their names. It ends after the
// first error.
func (t *Tx) All() iter.Seq2[*Entry, error] {
	return func(yield func(*Entry, error) bool) {
		c := t.tx.Bucket(bucketName).Cursor()
		for k, _ := c.First(); k != nil; k, _ = c.Next() {
			e, err := t.indexed(k[bytes.IndexByte(k, 0)+1:])
			if !yield(e, err) || err != nil {
				return
			}
		}
	}
}

// prefixed are the entries whose serial numbers follow prefix in an index.
func (t *Tx) prefixed(bucket, prefix []byte) (entries []*Entry, err error) {
	c := t.tx.Bucket(bucket).Cursor()
	for k, _ := c.Seek(prefix); bytes.HasPrefix(k, prefix); k, _ = c.Next() {
		e, err := t.indexed(k[len(prefix):])
		if err != nil {
			return nil, err
		}
		entries = append(entries, e)
	}
	return entries, nil
}

// put writes the entry and its name's row.
func (t *Tx) put(e *Entry) error {
	value, err := json.Marshal(e)
	if err != nil {
		return err
	}
	serial := e.Serial.bytes()
	if err := t.tx.Bucket(bucketEntry).Put(serial, value); err != nil {
		return err
	}
	return t.tx.Bucket(bucketName).Put(nameRow(e), nil)
}

// nameRow is the entry's key in the index of names. The first 0 ends the name.
func nameRow(e *Entry) []byte {
	return append(append([]byte(strings.ReplaceAll(e.Name, "\x00", "")), 0), e.Serial.bytes()...)
}

// indexed is the entry that an index leads to, so it must be there.
func (t *Tx) indexed(serial []byte) (*Entry, error) {
	e, err := t.BySerial(serialOf(serial))
	if err == nil && e == nil {
		err = fmt.Errorf("%w: an index names the serial number %X, which is not in it", ErrDamaged, serial)
	}
	return e, err
}

func decode(serial, value []byte) (*Entry, error) {
	if value == nil {
		return nil, nil
	}
	e := &Entry{Serial: serialOf(serial)}
	if err := json.Unmarshal(value, e); err != nil {
		return nil, fmt.Errorf("%w: entry %s: %w", ErrDamaged, e.Serial, err)
	}
	return e, nil
}

func serialOf(b []byte) Serial { return SerialOf(new(big.Int).SetBytes(b)) }
