/* The calls of MPI that `mpi.rs` makes, with the types of Rust: handles and constants of MPI differ between
 * Open MPI, MPICH and others, and are known only to the mpi.h that this file is compiled with.
 *
 * Requests have numbers, so that Rust sees no handle. All functions return 0 or an MPI error code. */
#include <mpi.h>
#include <stdlib.h>

static MPI_Comm ranks;
static MPI_Request *requests;
static int n_requests;

static int slot(void)
{
    for (int i = 0; i < n_requests; i++)
        if (requests[i] == MPI_REQUEST_NULL)
            return i;
    requests = realloc(requests, (n_requests + 1) * sizeof *requests);
    if (!requests)
        abort();
    requests[n_requests] = MPI_REQUEST_NULL;
    return n_requests++;
}

int tinygpt_mpi_init(int *rank, int *n_ranks)
{
    int level, code;
    if ((code = MPI_Init_thread(NULL, NULL, MPI_THREAD_SERIALIZED, &level)) != MPI_SUCCESS)
        return code;
    if (level < MPI_THREAD_SERIALIZED)
        return MPI_ERR_OTHER;
    if ((code = MPI_Comm_dup(MPI_COMM_WORLD, &ranks)) != MPI_SUCCESS)
        return code;
    if ((code = MPI_Comm_set_errhandler(ranks, MPI_ERRORS_RETURN)) != MPI_SUCCESS)
        return code;
    if ((code = MPI_Comm_rank(ranks, rank)) != MPI_SUCCESS)
        return code;
    return MPI_Comm_size(ranks, n_ranks);
}

int tinygpt_mpi_finalize(void)
{
    return MPI_Finalize();
}

/* `text` has room for MPI_MAX_ERROR_STRING bytes, which is at most 1024. */
void tinygpt_mpi_error(int code, char *text, int *length)
{
    if (MPI_Error_string(code, text, length) != MPI_SUCCESS)
        *length = 0;
}

int tinygpt_mpi_sum(float *values, int n, int *request)
{
    *request = slot();
    return MPI_Iallreduce(MPI_IN_PLACE, values, n, MPI_FLOAT, MPI_SUM, ranks, &requests[*request]);
}

int tinygpt_mpi_broadcast(float *values, int n, int *request)
{
    *request = slot();
    return MPI_Ibcast(values, n, MPI_FLOAT, 0, ranks, &requests[*request]);
}

int tinygpt_mpi_send(const void *bytes, int n, int to, int tag, int *request)
{
    *request = slot();
    return MPI_Isend((void *)bytes, n, MPI_BYTE, to, tag, ranks, &requests[*request]);
}

int tinygpt_mpi_receive(void *bytes, int n, int from, int tag, int *request)
{
    *request = slot();
    return MPI_Irecv(bytes, n, MPI_BYTE, from, tag, ranks, &requests[*request]);
}

/* The length of the message of `from`, or -1 if there is not one yet. */
int tinygpt_mpi_probe(int from, int tag, int *n)
{
    int is_there, code;
    MPI_Status status;
    *n = -1;
    if ((code = MPI_Iprobe(from, tag, ranks, &is_there, &status)) != MPI_SUCCESS || !is_there)
        return code;
    return MPI_Get_count(&status, MPI_BYTE, n);
}

int tinygpt_mpi_test(int request, int *is_done)
{
    return MPI_Test(&requests[request], is_done, MPI_STATUS_IGNORE);
}
