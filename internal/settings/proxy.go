package settings

import (
	"errors"
	"fmt"
	"net/url"
)

// Proxy is the URL of an HTTP proxy. Its password leaves it through URL only:
// every way of printing or marshalling it gives the URL without the password.
// The zero value is no proxy.
type Proxy struct {
	// A pointer: fmt prints the fields of a struct that it cannot call methods
	// on, and then shows an address and not the password.
	url *url.URL
}

// errProxy does not repeat the text, which may hold a password.
var errProxy = errors.New("it is not the URL of a proxy; write http://host:port or http://user@host:port, special characters in user or password as %XX")

// UnmarshalText takes http://[user[:password]@]host:port, or nothing.
func (p *Proxy) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*p = Proxy{}
		return nil
	}
	u, err := url.Parse(string(b))
	switch {
	case err != nil || u.Host == "" || u.Opaque != "":
		return errProxy
	case u.Scheme != "http":
		return fmt.Errorf("a proxy with %s:// is not supported; write http://host:port", u.Scheme)
	case u.Hostname() == "" || checkPort(u.Port()) != nil:
		return errProxy
	case u.Path != "" && u.Path != "/", u.RawQuery != "", u.Fragment != "", u.ForceQuery:
		return errProxy
	}
	u.Path, u.RawPath, u.RawFragment = "", "", ""
	*p = Proxy{url: u}
	return nil
}

// IsZero tells whether there is no proxy.
func (p Proxy) IsZero() bool { return p.url == nil }

// URL is a copy of the whole URL, with the password; nil without a proxy.
func (p Proxy) URL() *url.URL {
	if p.url == nil {
		return nil
	}
	u := *p.url
	return &u
}

// String is the URL without the password; empty without a proxy.
func (p Proxy) String() string {
	u := p.URL()
	if u == nil {
		return ""
	}
	if u.User != nil {
		u.User = url.User(u.User.Username())
	}
	return u.String()
}

// GoString is String.
func (p Proxy) GoString() string { return p.String() }

// Format prints String for every verb.
func (p Proxy) Format(f fmt.State, _ rune) { fmt.Fprint(f, p.String()) }

// MarshalText is String: a proxy that was marshalled has lost its password.
func (p Proxy) MarshalText() ([]byte, error) { return []byte(p.String()), nil }
