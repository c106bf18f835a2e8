/* SPDX-License-Identifier: Apache-2.0 */
/* What the compile workload compiles: small, but with headers, loops, structs and switch statements. */
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum kind { NUMBER, PLUS, MINUS, TIMES, OVER, OPEN, CLOSE, END };

struct token {
    enum kind kind;
    double value;
};

struct parser {
    const char *text;
    struct token token;
    int depth, errors;
};

struct node {
    struct node *left, *right;
    char *key;
    int count, height;
};

static void advance(struct parser *parser)
{
    while (isspace((unsigned char)*parser->text))
        parser->text++;
    char c = *parser->text;
    switch (c) {
    case '\0':
        parser->token.kind = END;
        return;
    case '+':
    case '-':
    case '*':
    case '/':
    case '(':
    case ')':
        parser->token.kind = c == '+' ? PLUS : c == '-' ? MINUS : c == '*' ? TIMES : c == '/' ? OVER
                                           : c == '(' ? OPEN : CLOSE;
        parser->text++;
        return;
    default:
        if (isdigit((unsigned char)c)) {
            char *end;
            parser->token = (struct token){NUMBER, strtod(parser->text, &end)};
            parser->text = end;
            return;
        }
        parser->errors++;
        parser->text++;
        advance(parser);
    }
}

static double sum(struct parser *parser);

static double factor(struct parser *parser)
{
    double value = 0;
    if (parser->token.kind == NUMBER) {
        value = parser->token.value;
        advance(parser);
    } else if (parser->token.kind == MINUS) {
        advance(parser);
        value = -factor(parser);
    } else if (parser->token.kind == OPEN && parser->depth < 100) {
        parser->depth++;
        advance(parser);
        value = sum(parser);
        parser->depth--;
        if (parser->token.kind == CLOSE)
            advance(parser);
        else
            parser->errors++;
    } else {
        parser->errors++;
        advance(parser);
    }
    return value;
}

static double product(struct parser *parser)
{
    double value = factor(parser);
    while (parser->token.kind == TIMES || parser->token.kind == OVER) {
        enum kind kind = parser->token.kind;
        advance(parser);
        double right = factor(parser);
        value = kind == TIMES ? value * right : right != 0 ? value / right : (errno = EDOM, 0);
    }
    return value;
}

static double sum(struct parser *parser)
{
    double value = product(parser);
    while (parser->token.kind == PLUS || parser->token.kind == MINUS) {
        enum kind kind = parser->token.kind;
        advance(parser);
        value += kind == PLUS ? product(parser) : -product(parser);
    }
    return value;
}

static int height(const struct node *node)
{
    return node ? node->height : 0;
}

static void measure(struct node *node)
{
    int left = height(node->left), right = height(node->right);
    node->height = 1 + (left > right ? left : right);
}

static struct node *rotate_right(struct node *node)
{
    struct node *top = node->left;
    node->left = top->right;
    top->right = node;
    measure(node);
    measure(top);
    return top;
}

static struct node *rotate_left(struct node *node)
{
    struct node *top = node->right;
    node->right = top->left;
    top->left = node;
    measure(node);
    measure(top);
    return top;
}

static struct node *insert(struct node *node, const char *key)
{
    if (!node) {
        node = calloc(1, sizeof *node);
        node->key = strdup(key);
        node->count = node->height = 1;
        return node;
    }
    int order = strcmp(key, node->key);
    if (order == 0)
        node->count++;
    else if (order < 0)
        node->left = insert(node->left, key);
    else
        node->right = insert(node->right, key);
    measure(node);
    int balance = height(node->left) - height(node->right);
    if (balance > 1) {
        if (height(node->left->left) < height(node->left->right))
            node->left = rotate_left(node->left);
        return rotate_right(node);
    }
    if (balance < -1) {
        if (height(node->right->right) < height(node->right->left))
            node->right = rotate_right(node->right);
        return rotate_left(node);
    }
    return node;
}

static void print(const struct node *node)
{
    if (!node)
        return;
    print(node->left);
    printf("%s %d\n", node->key, node->count);
    print(node->right);
}

int main(int argc, char **argv)
{
    struct node *words = NULL;
    for (int i = 1; i < argc; i++) {
        struct parser parser = {.text = argv[i]};
        advance(&parser);
        double value = sum(&parser);
        if (parser.errors)
            words = insert(words, argv[i]);
        else
            printf("%s = %g, root %g\n", argv[i], value, sqrt(fabs(value)));
    }
    print(words);
    return 0;
}
