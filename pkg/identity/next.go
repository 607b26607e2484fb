package identity

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/jitr-agent/jitr-agent/internal/atomicfile"
	"github.com/jitr-agent/jitr-agent/internal/certs"
)

// LoadNext loads the certificate that Import has put beside the accepted one,
// with next.key where it has a key of its own, else with device.key. Without
// one it returns nil and no error. The caller closes the identity.
func LoadNext(ctx context.Context, opts Options) (*Identity, error) {
	if !exists(opts.path(NextCertFile)) {
		return nil, nil
	}
	opts.Owner = false // what is loaded in the TPM is that of the present identity
	key := opts.path(KeyFile)
	if exists(opts.path(NextKeyFile)) {
		key = opts.path(NextKeyFile)
	}
	return loadPair(ctx, opts, key, opts.path(NextCertFile))
}

// Promote puts the next certificate, and its key, in the place of the present
// ones: it has been proved. A power cut in the middle is mended by Load. When
// another certificate has taken the candidate's place meanwhile, nothing is
// changed and that is an error.
func Promote(ctx context.Context, opts Options, certificateID string) error {
	unlock, err := lock(ctx, opts)
	if err != nil {
		return err
	}
	defer unlock()
	chain, err := readChain(opts.path(NextCertFile))
	if err != nil {
		return err
	}
	if id := certs.ID(chain[0]); id != certificateID {
		return fmt.Errorf("%s: holds certificate %s now, and %s was proved", opts.path(NextCertFile), id, certificateID)
	}
	return promote(opts)
}

// promote moves the key first: device.key then fits next.crt and no longer
// device.crt, which finishPromotion recognises.
func promote(opts Options) error {
	err := atomicfile.Rename(opts.path(NextKeyFile), opts.path(KeyFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return atomicfile.Rename(opts.path(NextCertFile), opts.path(CertFile))
}

// finishPromotion does the second half of a promotion that was cut in two.
func finishPromotion(ctx context.Context, opts Options) error {
	next := installedChain(opts, NextCertFile)
	if next == nil || exists(opts.path(NextKeyFile)) {
		return nil
	}
	key, err := readKey(opts.path(KeyFile))
	if err != nil {
		return nil // Load meets the same error and says it
	}
	present := installedChain(opts, CertFile)
	if !certs.SameKey(key.public(), next[0].PublicKey) || present != nil && certs.SameKey(key.public(), present[0].PublicKey) {
		return nil
	}
	unlock, err := lock(ctx, opts)
	if err != nil {
		return err
	}
	defer unlock()
	return promote(opts)
}
