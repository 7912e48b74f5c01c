package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/hsmkeys/hsmkeys/cmd/internal/failure"
	"github.com/hsmkeys/hsmkeys/cmd/internal/message"
	"github.com/hsmkeys/hsmkeys/cmd/internal/settings"
	"github.com/hsmkeys/hsmkeys/softhsm"
)

// softhsmPrefix begins the variables that describe throw-away tokens.
const softhsmPrefix = "HSMKEYS_SOFTHSM_"

// softhsmLabels parses a list of labels, each of which can be told from the others, also in variables.
func softhsmLabels(list string) ([]string, error) {
	const maxLabel = 32 // bytes, PKCS #11 v2.40 §3.2
	var labels []string
	taken := map[string]string{}
	for label := range strings.SplitSeq(list, ",") {
		label = strings.TrimSpace(label)
		other, double := taken[softhsmVariable(label)]
		switch {
		case label == "":
			return nil, failure.Usage("--tokens %q has an empty label", list)
		case len(label) > maxLabel:
			return nil, failure.Usage("label %q has %d bytes, and a token takes %d", label, len(label), maxLabel)
		case !utf8.ValidString(label) || strings.ContainsFunc(label, func(r rune) bool { return !unicode.IsPrint(r) }):
			return nil, failure.Usage("label %q is not printable", label)
		case strings.HasPrefix(label, "pkcs11:"):
			return nil, failure.Usage("label %q would be taken for a URI", label)
		case double && other == label:
			return nil, failure.Usage("label %q is there twice", label)
		case double:
			return nil, failure.Usage("labels %q and %q have the same variables, %s…", other, label, softhsmVariable(label))
		}
		taken[softhsmVariable(label)] = label
		labels = append(labels, label)
	}
	return labels, nil
}

// softhsmVariable returns how the variables of a token begin.
func softhsmVariable(label string) string {
	return softhsmPrefix + strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		}
		return '_'
	}, label) + "_"
}

// runSoftHSM runs a command with throw-away tokens. Signals are taken before there is anything to remove.
func runSoftHSM(ctx context.Context, labels, words []string) error {
	if err := errNoSoftHSM(); err != nil {
		return err
	}
	signals := takeSignals()
	if err := ctx.Err(); err != nil {
		return err
	}
	env, err := softhsm.New()
	if err != nil {
		return explainSoftHSM(err)
	}
	defer func() {
		if err := env.Close(); err != nil { // the status is the command's all the same
			message.Warn(err)
		}
	}()
	module, err := env.FaultyModule()
	if err != nil {
		return explainSoftHSM(err)
	}
	var tokens []softhsm.Token
	for _, label := range labels {
		t, err := env.InitToken(label)
		if err != nil {
			return err
		}
		tokens = append(tokens, t)
		select {
		case <-signals:
			return failure.ErrInterrupted
		default:
		}
	}
	environment, err := softhsmEnvironment(env, module, tokens)
	if err != nil {
		return err
	}
	return runCommand(words, environment, signals)
}

// explainSoftHSM adds what to install.
func explainSoftHSM(err error) error {
	switch {
	case errors.Is(err, softhsm.ErrNotInstalled):
		return failure.WithHint(err, "sudo apt-get install softhsm2, sudo dnf install softhsm, or the like")
	case errors.Is(err, softhsm.ErrNoCompiler):
		return failure.WithHint(err, "install gcc, or hsmkeys from its package, which brings the module")
	}
	return err
}

// softhsmEnvironment returns the environment of a command that uses throw-away tokens: this program's, in
// which nothing leads to tokens, stores, agents and pins of the user.
func softhsmEnvironment(env *softhsm.Env, module string, tokens []softhsm.Token) ([]string, error) {
	in := func(name string) string { return filepath.Join(env.Dir(), name) }
	set := map[string]string{
		"HSMKEYS_MODULE": module, "HSMKEYS_TOKEN": tokens[0].Label, "HSMKEYS_STORE": in("store"),
		"HSMKEYS_CONFIG": in("config.toml"), "XDG_STATE_HOME": in("state"),
	}
	for _, variable := range env.Environ() {
		name, value, _ := strings.Cut(variable, "=")
		set[name] = value
	}
	var labels []string
	// Each PIN in the section of its token, so that it is sent to no other.
	var config strings.Builder
	for _, t := range tokens {
		pin := in("pin-" + t.Serial)
		if err := os.WriteFile(pin, []byte(t.PIN+"\n"), 0o600); err != nil {
			return nil, err
		}
		fmt.Fprintf(&config, "[token.%s]\npin-source = %s\n", strconv.Quote(t.Label), strconv.Quote("file:"+pin))
		variable := softhsmVariable(t.Label)
		set[variable+"SERIAL"], set[variable+"PIN"], set[variable+"SO_PIN"] = t.Serial, t.PIN, t.SOPIN
		labels = append(labels, t.Label)
	}
	set[softhsmPrefix+"TOKENS"] = strings.Join(labels, ",")
	if err := os.WriteFile(set["HSMKEYS_CONFIG"], []byte(config.String()), 0o600); err != nil {
		return nil, err
	}
	environment := slices.DeleteFunc(os.Environ(), func(variable string) bool {
		name, _, _ := strings.Cut(variable, "=")
		return set[name] != "" || strings.HasPrefix(name, softhsmPrefix) ||
			slices.ContainsFunc(settings.Options, func(o settings.Option) bool { return o.Variable != "" && o.Variable == name })
	})
	for _, name := range slices.Sorted(maps.Keys(set)) {
		environment = append(environment, name+"="+set[name])
	}
	return environment, nil
}
