package settings

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

var (
	thingName  = regexp.MustCompile(`^[a-zA-Z0-9:_-]{1,128}$`)
	shadowName = regexp.MustCompile(`^[a-zA-Z0-9:_-]{1,64}$`)
	hostName   = regexp.MustCompile(`^[a-zA-Z0-9]([a-zA-Z0-9._-]*[a-zA-Z0-9])?$`)
)

// maxSocketPath is what sockaddr_un.sun_path holds besides its NUL, unix(7).
const maxSocketPath = 107

// check applies the tags to one value; text is how it was written.
func (f field) check(v reflect.Value, text string) error {
	if allow, ok := f.tag.Lookup("allow"); ok && !slices.Contains(strings.Split(allow, "|"), v.String()) {
		return fmt.Errorf("%q is not allowed; %s", v.String(), f.allowed())
	}
	if low, ok := f.tag.Lookup("min"); ok {
		if v.Int() < f.bound(low) || v.Int() > f.bound(f.tag.Get("max")) {
			return fmt.Errorf("%s is out of range; %s", text, f.allowed())
		}
	}
	if step, ok := f.tag.Lookup("step"); ok && v.Int()%f.bound(step) != 0 {
		return fmt.Errorf("%s is not a whole multiple of %s", text, step)
	}
	return f.rule(v)
}

// bound is the value of a min, max or step tag.
func (f field) bound(text string) int64 {
	v, err := f.parse(text)
	if err != nil {
		panic("settings: range of " + f.name() + ": " + err.Error()) // a mistake in a tag; the tests meet it
	}
	return v.Int()
}

// allowed tells what the field takes, for messages and the reference page;
// empty where the doc tells it.
func (f field) allowed() string {
	if allow, ok := f.tag.Lookup("allow"); ok {
		return "allowed: " + strings.ReplaceAll(allow, "|", ", ")
	}
	if low, ok := f.tag.Lookup("min"); ok {
		return "allowed: " + low + " to " + f.tag.Get("max")
	}
	return ""
}

// rule applies the check that the rule tag names.
func (f field) rule(v reflect.Value) error {
	s := v.String()
	switch rule := f.tag.Get("rule"); rule {
	case "":
		return nil
	case "topic":
		return checkTopic(s, strings.Split(f.tag.Get("vars"), "|"))
	case "tpm-device":
		return checkTPMDevice(s)
	case "shadow-name":
		if !shadowName.MatchString(s) {
			return fmt.Errorf("%q is not a shadow name; 1 to 64 of a-z A-Z 0-9 : _ -", s)
		}
		return nil
	default:
		if s == "" {
			return nil // not set
		}
		return optional(rule, s)
	}
}

// optional applies the rules of the settings that may be empty.
func optional(rule, s string) error {
	switch rule {
	case "endpoint":
		_, _, err := splitEndpoint(s)
		return err
	case "absolute-path":
		// The service and a command given by hand have different working
		// directories.
		if !filepath.IsAbs(s) {
			return fmt.Errorf("%q is not an absolute path; it must begin with /", s)
		}
		return nil
	case "thing-name":
		if !thingName.MatchString(s) {
			return fmt.Errorf("%q is not a thing name; 1 to 128 of a-z A-Z 0-9 : _ -", s)
		}
		return nil
	case "socket":
		return checkSocket(s)
	case "loopback":
		return checkLoopback(s)
	default:
		panic("settings: unknown rule " + rule)
	}
}

func checkTPMDevice(s string) error {
	const forms = "write /dev/tpmrm0, unix:/PATH or tcp:HOST:PORT"
	path, isSocket := strings.CutPrefix(s, "unix:")
	if addr, ok := strings.CutPrefix(s, "tcp:"); ok {
		host, port, err := net.SplitHostPort(addr)
		if err != nil || host == "" || checkPort(port) != nil {
			return fmt.Errorf("%q is not a TPM; %s", s, forms)
		}
		return nil
	}
	switch {
	case !filepath.IsAbs(path):
		return fmt.Errorf("%q is not a TPM; %s", s, forms)
	case isSocket && len(path) > maxSocketPath:
		return fmt.Errorf("the path of a socket cannot be longer than %d bytes", maxSocketPath)
	}
	return nil
}

func checkSocket(s string) error {
	switch {
	case !filepath.IsAbs(s) && (strings.Contains(s, "/") || s == "." || s == ".."):
		return fmt.Errorf("%q is neither a file name nor an absolute path", s)
	case len(s) > maxSocketPath:
		return fmt.Errorf("the path of a socket cannot be longer than %d bytes", maxSocketPath)
	}
	return nil
}

func checkLoopback(s string) error {
	host, port, err := net.SplitHostPort(s)
	if err != nil || checkPort(port) != nil {
		return fmt.Errorf("%q is not an address; write 127.0.0.1:1883", s)
	}
	if ip, err := netip.ParseAddr(host); host != "localhost" && (err != nil || !ip.IsLoopback()) {
		return fmt.Errorf("%q is not on the loopback interface; write 127.0.0.1:%s", s, port)
	}
	return nil
}

func checkPort(s string) error {
	if n, err := strconv.ParseUint(s, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("%q is not a port; allowed: 1 to 65535", s)
	}
	return nil
}

// splitEndpoint takes host, host:port, an IP address, or [IPv6]:port.
func splitEndpoint(s string) (host string, port int, err error) {
	switch {
	case strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f }):
		return "", 0, fmt.Errorf("%q has white space in it", s)
	case strings.Contains(s, "://"):
		return "", 0, errors.New("it has a scheme; write the host name only, such as xxxx-ats.iot.us-west-2.amazonaws.com")
	case strings.Contains(s, "/"):
		return "", 0, fmt.Errorf("%q has a path; write the host name only", s)
	}
	if ip, err := netip.ParseAddr(s); err == nil {
		return ip.String(), DefaultPort, nil
	}
	if !strings.Contains(s, ":") {
		host, port = s, DefaultPort
	} else {
		h, p, err := net.SplitHostPort(s)
		if err != nil {
			return "", 0, fmt.Errorf("%q is neither host nor host:port", s)
		}
		if err := checkPort(p); err != nil {
			return "", 0, err
		}
		host = h
		port, _ = strconv.Atoi(p) // checkPort has done it
	}
	if _, err := netip.ParseAddr(host); err != nil && (!hostName.MatchString(host) || strings.Contains(host, "..")) {
		return "", 0, fmt.Errorf("%q is not a host name", host)
	}
	return host, port, nil
}
