// Package cli gives our programs the same manners at the command line: results
// on stdout, an error as one line on stderr, and the exit codes that
// docs and scripts rely on.
package cli

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

// The exit codes that all programs share. 64 and 78 are EX_USAGE and
// EX_CONFIG of sysexits.h; systemd's RestartPreventExitStatus= can name them.
const (
	ExitOK     = 0
	ExitFailed = 1
	ExitUsage  = 64
	ExitConfig = 78
)

// ExitError ends the program with Code. A nil Err prints nothing: the command
// has said on stdout or stderr all there is to say.
type ExitError struct {
	Code int
	Err  error
}

func (e *ExitError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("exit code %d", e.Code)
	}
	return e.Err.Error()
}

func (e *ExitError) Unwrap() error { return e.Err }

// Usage marks err as wrong usage: exit code 64.
func Usage(err error) error { return &ExitError{Code: ExitUsage, Err: err} }

// Main runs the command that args name and returns the exit code. Commands
// write results to cmd.OutOrStdout() and return their errors; Main prints an
// error to stderr as "NAME: error", on one line.
//
// An error is exit code 1, unless it wraps an ExitError. What cobra itself
// finds wrong before a command's own code runs (unknown command or flag,
// missing argument or required flag) is 64, and so is a group of commands
// called without one of them.
//
// The command's context is the one given to root.SetContext, else
// context.Background; signals are the caller's business.
func Main(root *cobra.Command, args []string, stdout, stderr io.Writer) int {
	root.SilenceErrors, root.SilenceUsage = true, true
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.SetHelpCommand(helpCommand())
	root.InitDefaultHelpCmd()

	var ours bool // the error comes from our code, not from cobra's checks
	prepare(root, func() { ours = true })

	cmd, err := root.ExecuteC()
	if err == nil {
		return ExitOK
	}
	var exit *ExitError
	if !errors.As(err, &exit) {
		exit = &ExitError{Code: ExitFailed, Err: err}
		if !ours {
			exit.Code = ExitUsage
		}
	}
	if exit.Err != nil {
		remedy := ""
		if exit.Code == ExitUsage {
			remedy = fmt.Sprintf("; see '%s --help'", cmd.CommandPath())
		}
		fmt.Fprintf(stderr, "%s: %s%s\n", root.Name(), oneLine(err.Error()), remedy)
	}
	return exit.Code
}

// prepare makes groups of commands refuse what they do not know, and has
// started called before any code of ours runs.
func prepare(cmd *cobra.Command, started func()) {
	if !cmd.Runnable() && cmd.HasSubCommands() {
		cmd.Args = cobra.ArbitraryArgs // else cobra answers with several lines
		cmd.RunE = func(cmd *cobra.Command, args []string) error { return Usage(unknown(cmd, args)) }
	}
	for _, f := range []*func(*cobra.Command, []string) error{&cmd.PersistentPreRunE, &cmd.PreRunE, &cmd.RunE} {
		if own := *f; own != nil {
			*f = func(cmd *cobra.Command, args []string) error {
				started()
				return own(cmd, args)
			}
		}
	}
	for _, sub := range cmd.Commands() {
		prepare(sub, started)
	}
}

// unknown says why a group with these args cannot run.
func unknown(group *cobra.Command, args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("'%s' needs a command", group.CommandPath())
	}
	group.SuggestionsMinimumDistance = 2 // letters that a typing error may change; cobra's own default
	err := fmt.Errorf("unknown command %q for '%s'", args[0], group.CommandPath())
	if like := group.SuggestionsFor(args[0]); len(like) > 0 {
		err = fmt.Errorf("%w; did you mean %q?", err, like[0])
	}
	return err
}

// helpCommand is cobra's `help`, except that an unknown topic is wrong usage.
func helpCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "help [command]",
		Short: "Help about any command",
		RunE: func(cmd *cobra.Command, args []string) error {
			topic, rest, err := cmd.Root().Find(args)
			if err != nil {
				return Usage(err)
			}
			if len(rest) > 0 {
				return Usage(unknown(topic, rest))
			}
			topic.InitDefaultHelpFlag()
			return topic.Help()
		},
	}
}

// oneLine keeps the promise of one line where a library's error has several.
func oneLine(s string) string {
	return strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r == '\n' || r == '\r' }), " ")
}
