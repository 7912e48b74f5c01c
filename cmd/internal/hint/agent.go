package hint

import (
	"errors"

	"github.com/hsmkeys/hsmkeys/cmd/internal/agent"
)

// ofAgent returns hints for errors of the agent.
func ofAgent(err error) string {
	switch {
	case errors.Is(err, agent.ErrLocked):
		return "hsmkeys agent unlock; or --no-agent, which asks for the PIN"
	case errors.Is(err, agent.ErrNotAllowed):
		return "start the agent with --allow, or use --no-agent, which asks for the PIN"
	case errors.Is(err, agent.ErrNone):
		return "hsmkeys agent starts one"
	case errors.Is(err, agent.ErrNamedOnly):
		return "only encrypt and decrypt use it; --no-agent uses the token, --agent another socket"
	case errors.Is(err, agent.ErrPolicy):
		return "the owner of the agent can allow it in the file of its --policy"
	case errors.Is(err, agent.ErrOtherUser):
		return "use --no-agent, or name another socket with --agent"
	case errors.Is(err, agent.ErrGone):
		return "hsmkeys agent status shows whether the agent is still there; repeat the command"
	}
	return ""
}
