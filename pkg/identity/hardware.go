package identity

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

func rooted(root string) string {
	if root == "" {
		return "/"
	}
	return root
}

// deviceTree is /proc/device-tree, or where it points to if /proc has it not.
func deviceTree(root string) string {
	proc := filepath.Join(rooted(root), "proc/device-tree")
	if resolved, err := filepath.EvalSymlinks(proc); err == nil {
		return resolved
	}
	return filepath.Join(rooted(root), "sys/firmware/devicetree/base")
}

// Hardware returns the board's model and serial number, from the device tree,
// else from DMI; "" for what the board does not tell.
func Hardware(root string) (model, serial string) {
	model = property(filepath.Join(deviceTree(root), "model"))
	if model == "" {
		model = dmi(root, "product_name")
	}
	serial, _ = boardSerial(root)
	return model, serial
}

// boardSerial returns the serial number and where it comes from.
func boardSerial(root string) (serial, source string) {
	if s := property(filepath.Join(deviceTree(root), "serial-number")); s != "" {
		return s, "the device tree"
	}
	for _, name := range []string{"product_serial", "board_serial"} {
		if s := dmi(root, name); s != "" {
			return s, "DMI"
		}
	}
	return "", ""
}

func dmi(root, name string) string {
	return property(filepath.Join(rooted(root), "sys/class/dmi/id", name))
}

// property reads a value of the firmware; "" where there is none, it cannot be
// read (DMI serial numbers are for root only) or it is a placeholder.
func property(path string) string {
	data, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	s := strings.TrimSpace(strings.Trim(string(data), "\x00"))
	if placeholder.MatchString(s) {
		return ""
	}
	return s
}

// placeholder is what makers leave in the fields of a board: nothing, one
// character over and over, the keyboard's digits, or a phrase.
var placeholder = regexp.MustCompile(`(?i)^(|0+|x+|f+|\.+|-+|0?123456789(abcdef)?0?|none|null|unknown|invalid|n/?a|empty|oem|` +
	`not (specified|available|applicable|present)|default( string)?|to be filled by o\.?e\.?m\.?|o\.?e\.?m\.?|` +
	`(system|chassis|base ?board|board)[ -]?(product name|serial( number)?|name))$`)

// unfit is what a thing name cannot have.
var unfit = regexp.MustCompile(`[^a-zA-Z0-9:_-]+`)

// DefaultName is the name of a gateway that nobody has named: "gw-" and the
// board's serial number, else "gw-" and the first 16 hex digits of the SHA-256
// of the machine id followed by "jitr-agent" (machine-id(5) asks not to give
// the id itself away). Never the host name, which a whole fleet may share.
// source says in words where it comes from.
func DefaultName(root string) (name, source string, err error) {
	if serial, from := boardSerial(root); serial != "" {
		if fit := strings.Trim(unfit.ReplaceAllString(serial, "-"), "-"); fit != "" {
			return "gw-" + fit[:min(len(fit), 125)], "the board's serial number in " + from, nil
		}
	}
	path := filepath.Join(rooted(root), "etc/machine-id")
	data, err := os.ReadFile(path)
	if err != nil {
		return "", "", fmt.Errorf("name this gateway: the board has no serial number, and %w; set cloud.thing_name, or give --subject", err)
	}
	id := strings.TrimSpace(string(data))
	if id == "" || id == "uninitialized" {
		return "", "", errors.New("name this gateway: the board has no serial number, and " + path + " is empty; set cloud.thing_name, or give --subject")
	}
	sum := sha256.Sum256([]byte(id + "jitr-agent"))
	return "gw-" + hex.EncodeToString(sum[:8]), "the machine id", nil
}
