package commandline

import (
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/hsmkeys/hsmkeys/cmd/internal/message"
	"github.com/hsmkeys/hsmkeys/cmd/internal/settings"
	"github.com/hsmkeys/hsmkeys/cmd/internal/terminal"
	"github.com/hsmkeys/hsmkeys/cmd/internal/trial"
)

// Settings reads the settings of a command line, and applies those that concern the whole program.
func Settings(c *cli.Context) (*settings.Settings, error) {
	line := map[string]string{}
	for _, o := range settings.Options {
		if c.IsSet(o.Name) {
			line[o.Name] = fmt.Sprint(c.Value(o.Name))
		}
	}
	s, err := settings.Load(settings.Source{Line: line})
	if err != nil {
		return nil, err
	}
	message.JSON, terminal.Wide = s.JSON, s.Wide
	trial.Watch(s.ModuleTimeout)
	return s, nil
}
