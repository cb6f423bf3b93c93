/* What smpirun loads for every rank: it wants a main() in a library. The program around it is engine.c. */
int coffer_rank(int argc, char **argv);

int main(int argc, char **argv) {
    return coffer_rank(argc, argv);
}
