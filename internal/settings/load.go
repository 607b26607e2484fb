package settings

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// Load reads the file and then the environment (as os.Environ gives it), the
// stronger last. The overrides are the keys that the environment has set.
//
// Every error is an *Error that holds all problems of both. Settings are nil
// then, with one exception: where nothing is wrong but that the file does not
// exist, they are what defaults and environment give, for a caller that can go
// on without a file.
func Load(file string, environ []string) (*Settings, []Override, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		s := Default()
		overrides, problems := loadEnvironment(s, environ)
		if len(problems) > 0 || !errors.Is(err, fs.ErrNotExist) {
			s, overrides = nil, nil
		}
		return s, overrides, &Error{Problems: append([]Problem{unreadable(file, err)}, problems...), cause: err}
	}
	return load(file, data, environ)
}

// load is Load with the content of the file.
func load(file string, data []byte, environ []string) (*Settings, []Override, error) {
	s := Default()
	problems := loadFile(s, file, data)
	overrides, more := loadEnvironment(s, environ)
	if problems = append(problems, more...); len(problems) > 0 {
		return nil, nil, &Error{Problems: problems}
	}
	return s, overrides, nil
}

func unreadable(file string, err error) Problem {
	why := err
	if pathErr, ok := errors.AsType[*fs.PathError](err); ok {
		why = pathErr.Err // the path is said already
	}
	remedy := "check the path given with --config"
	if errors.Is(err, fs.ErrPermission) {
		remedy = "run the command as root, or as the user of the service"
	}
	return Problem{Path: file, Message: fmt.Sprintf("the configuration cannot be read: %v; %s", why, remedy)}
}
