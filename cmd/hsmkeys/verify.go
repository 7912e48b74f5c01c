package main

import (
	"errors"
	"os"

	"github.com/urfave/cli/v2"

	"github.com/hsmkeys/hsmkeys"
)

// verdict is one line of the result of verify.
type verdict struct {
	Name  string `json:"name"`
	OK    bool   `json:"ok"`
	Error string `json:"error,omitempty"`
}

func verifyCommand() *cli.Command {
	return &cli.Command{
		Name: "verify", Usage: "verify every signature", ArgsUsage: "[NAME…]",
		Description: "Verifies all revisions of the named keys, or of all keys. With --certificate no token is needed.",
		Flags:       []cli.Flag{certificateFlag()},
		Action: func(c *cli.Context) error {
			if err := validNames(c); err != nil {
				return err
			}
			return withReading(c, func(k *hsmkeys.Keyring) error {
				verdicts := []verdict{}
				var failed, printed error
				for name, err := range k.Verify(c.Context, c.Args().Slice()...) {
					v := verdict{Name: name, OK: err == nil}
					if err != nil {
						v.Error = oneLine(err.Error())
						failed = errors.Join(failed, err)
						say(err)
					} else if !c.Bool("json") {
						printed = errors.Join(printed, printLine("%s  %s", paint(os.Stdout, green, "ok"), name))
					}
					verdicts = append(verdicts, v)
				}
				if failed != nil {
					failed = errors.Join(errReported, failed)
				}
				if c.Bool("json") {
					printed = printJSON(verdicts)
				}
				if failed == nil {
					return printed
				}
				return errors.Join(failed, printed)
			})
		},
	}
}
