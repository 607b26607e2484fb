// Command aws is `make test-aws`: what AWS IoT Core really does where no
// documentation says it. For anybody with an account. It registers a throw-away
// CA, deploys the activator, connects as gateways do, writes what it saw into
// docs/compatibility.md, and deletes all that it made: also after a failure,
// and after Ctrl-C.
//
// Account and Region are found as the aws CLI finds them. With AWS_ENDPOINT_URL
// the services are somewhere else, such as iotcore-sim's --api; the emulator's
// root goes into AWS_TEST_SERVER_CA. It asks nothing but AWS_TEST=yes.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

const what = `make test-aws measures what AWS IoT Core does with certificates that are pending,
refused or replaced. In the account and Region that the aws CLI would take it
makes a CA, some ten device certificates, a policy, and what 'jitrctl cloud
deploy' makes; it deletes all of it again. It needs ten to twenty minutes, some 300
calls, 100 messages and 20 invocations of a function: at list prices less than
one US cent, and nothing that costs while it stands. It does not touch a
Region that has a deployment of jitr-agent already.

  AWS_TEST=yes make test-aws
`

// options are what tests set otherwise.
type options struct {
	dir, docs, zip string
	settle, cut    time.Duration
}

func main() {
	o := options{}
	flag.StringVar(&o.dir, "dir", "build/test-aws", "`DIR` for the CA, while it is registered")
	flag.StringVar(&o.docs, "docs", "docs", "`DIR` of compatibility.md; empty: write nothing")
	flag.StringVar(&o.zip, "zip", "", "`FILE` with the function's code (default: the one that make build made)")
	flag.DurationVar(&o.settle, "settle", 5*time.Second, "how `LONG` a change of a certificate may take to be known everywhere")
	flag.DurationVar(&o.cut, "cut", 5*time.Minute, "how `LONG` to wait for the end of a session whose certificate is INACTIVE")
	flag.Parse()
	if os.Getenv("AWS_TEST") != "yes" {
		fmt.Fprint(os.Stderr, what)
		os.Exit(1)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, o)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "test-aws: failed:", err)
		os.Exit(1)
	}
	fmt.Println("test-aws: ok")
}

// run measures everything. What it made is gone when it returns, unless the
// error says what is left.
func run(ctx context.Context, o options) (err error) {
	a, err := open(ctx, o)
	if err != nil {
		return err
	}
	fmt.Printf("account %s, Region %s, endpoint %s (%s)\n", a.Account.Account, a.Region, a.endpoint, a.column())
	if err := a.clearLeftover(ctx); err != nil {
		return err
	}
	if err := a.mustBeFree(ctx); err != nil {
		return err
	}
	defer func() {
		if ctx.Err() != nil {
			err = errors.New("it was interrupted")
		}
		// The signal has ended ctx, and a second one ends the program.
		clean, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanLimit)
		defer cancel()
		err = errors.Join(err, a.clear(clean))
	}()
	m := &measurements{account: a, cut: o.cut}
	if err := m.all(ctx); err != nil {
		return err
	}
	if o.docs == "" {
		return nil
	}
	return writeTable(o.docs, a.column(), m.rows)
}

// cleanLimit is the time for deleting everything.
const cleanLimit = 20 * time.Minute
