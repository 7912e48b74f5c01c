/*
 * A smart card for tests: libcacard's CAC card over an NSS database, put into the
 * reader that vpcd emulates in pcscd.
 *
 *	vcard DATABASE PORT CERTIFICATE...
 *
 * DATABASE is what NSS calls the database of the keys ("sql:DIR"), its password the
 * card's PIN; each CERTIFICATE is a nickname there. PORT is where vpcd waits for its
 * card on this machine. Ending the program pulls the card.
 *
 * Each way a message is its length, two bytes with the higher first, and so many bytes.
 * One byte from the reader is a command of its own, anything else an APDU; the card
 * answers an APDU, and the question for its ATR.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <libcacard.h>

enum { POWER_OFF = 0, POWER_ON = 1, RESET = 2, GET_ATR = 4 };
enum { VERIFY = 0x20 }; /* an APDU's instruction: the PIN */

static void die(const char *what)
{
	perror(what);
	exit(1);
}

/* Reads exactly so many bytes; the reader's end of the connection ends the card. */
static void get(int reader, unsigned char *buffer, size_t length)
{
	while (length > 0) {
		int on = 1;
		ssize_t n = read(reader, buffer, length);

		/*
		 * vpcd writes a message's length on its own and the rest when that is
		 * acknowledged, which else takes 40 ms for every message.
		 */
		setsockopt(reader, IPPROTO_TCP, TCP_QUICKACK, &on, sizeof(on));
		if (n < 0)
			die("read from the reader");
		if (n == 0) {
			fputs("the reader is gone\n", stderr);
			exit(1);
		}
		buffer += n;
		length -= (size_t)n;
	}
}

static void put(int reader, const unsigned char *message, size_t length)
{
	unsigned char frame[2 + 65535];
	size_t sent = 0;

	frame[0] = (unsigned char)(length >> 8);
	frame[1] = (unsigned char)length;
	memcpy(frame + 2, message, length);
	while (sent < length + 2) {
		ssize_t n = write(reader, frame + sent, length + 2 - sent);

		if (n < 0)
			die("write to the reader");
		sent += (size_t)n;
	}
}

static int join(int port)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
	int reader = socket(AF_INET, SOCK_STREAM, 0), on = 1;

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (reader < 0 || connect(reader, (struct sockaddr *)&address, sizeof(address)) != 0)
		die("connect to the reader");
	/* An answer is never held back until the reader has acknowledged the one before. */
	setsockopt(reader, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	return reader;
}

static VReader *make_card(const char *database, char **certificates, int count)
{
	static const char name[] = "matrix";
	GString *options = g_string_new(NULL);
	VReader *card;
	int i;

	g_string_printf(options, "db=\"%s\" use_hw=no soft=(,%s,CAC,", database, name);
	for (i = 0; i < count; i++)
		g_string_append_printf(options, ",%s", certificates[i]);
	g_string_append_c(options, ')');
	if (vcard_emul_init(vcard_emul_options(options->str)) != VCARD_EMUL_OK) {
		fprintf(stderr, "no card from %s\n", options->str);
		exit(1);
	}
	card = vreader_get_reader_by_name(name);
	if (card == NULL || vreader_card_is_present(card) != VREADER_OK) {
		fprintf(stderr, "no certificate found: %s\n", options->str);
		exit(1);
	}
	g_string_free(options, TRUE);
	return card;
}

int main(int argc, char **argv)
{
	unsigned char message[65535], answer[65535], atr[64];
	int length, atr_length = sizeof(atr), reader, answer_length;
	VReader *card;

	if (argc < 4) {
		fputs("usage: vcard DATABASE PORT CERTIFICATE...\n", stderr);
		return 2;
	}
	card = make_card(argv[1], argv + 3, argc - 3);
	vreader_power_on(card, atr, &atr_length);
	reader = join(atoi(argv[2]));
	puts("inserted");
	fflush(stdout);

	for (;;) {
		get(reader, message, 2);
		length = message[0] << 8 | message[1];
		get(reader, message, (size_t)length);
		answer_length = sizeof(answer);
		if (length != 1) {
			if (vreader_xfr_bytes(card, message, length, answer, &answer_length) != VREADER_OK) {
				memcpy(answer, "\x6f\x00", 2); /* no precise diagnosis */
				answer_length = 2;
			} else if (length > 5 && message[1] == VERIFY && answer_length == 2 &&
				   memcmp(answer, "\x69\x85", 2) == 0) {
				/*
				 * Conditions not satisfied, libcacard says to a wrong PIN; a real
				 * card says how many tries are left. Here it is always two.
				 */
				memcpy(answer, "\x63\xc2", 2);
			}
			put(reader, answer, (size_t)answer_length);
			continue;
		}
		switch (message[0]) {
		case POWER_OFF:
			vreader_power_off(card);
			break;
		case POWER_ON:
		case RESET:
			vreader_power_on(card, answer, &answer_length);
			break;
		case GET_ATR: /* asked all the time, to see whether there is a card: not a reset */
			put(reader, atr, (size_t)atr_length);
			break;
		}
	}
}
