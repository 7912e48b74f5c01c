package hint

// token returns hints for errors of package token: modules, tokens, PINs and pairs.
func token(err error) string {
	return ""
}
