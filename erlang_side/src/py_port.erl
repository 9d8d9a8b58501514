%% @doc The way to a worker for every other process: a frame is written to its port
%% directly. The worker process itself gets messages only about its own end.
%% @hidden
-module(py_port).

-include("py_worker.hrl").

-export([write/2, write/3, offer/2, end_of/1, end_of/2, is_full/1, cancel/2, replace/2]).
-export_type([held/0]).

-type held() :: {#worker{}, Ref :: reference(), Frame :: iodata()}.
%% A request that is counted, and for which the port has had no room so far. A message `{offer, Ref, Tries}'
%% says when to try {@link offer/2} again.

%% A large frame waits while the port holds more than this. A larger number
%% costs memory in the node while Python is busy; a smaller one leaves the pipe
%% idle between frames.
-define(LARGE_FRAME, 65536).
-define(QUEUE_LIMIT, 16 * 1024 * 1024).

%% The pause of who offers a frame doubles up to this. A larger number leaves the pipe idle for longer
%% once there is room, a smaller one costs more tries where there is none.
-define(LONGEST_PAUSE_MS, 50).

%% @doc Writes a frame, from whatever process. The port is opened so that it is
%% never busy: a process that writes is not suspended, and large frames are
%% held back here instead. `false' if the port is closed: Python never gets the frame.
-spec write(#worker{}, iodata()) -> boolean().
write(Worker, Frame) ->
    element(1, write(Worker, Frame, infinity)) =:= written.

%% @doc The same, for who waits no longer than a timeout. With the time that is left; `timeout' if there was no
%% room within it.
-spec write(#worker{}, iodata(), timeout()) -> {written | closed, Left :: timeout()} | timeout.
write(#worker{port = Port}, Frame, Timeout) ->
    case iolist_size(Frame) > ?LARGE_FRAME andalso is_full_port(Port) of
        false -> command(Port, Frame, Timeout);
        true -> write_when_not_full(Port, Frame, py_clock:deadline(Timeout))
    end.

command(Port, Frame, Left) ->
    try
        true = port_command(Port, Frame),
        {written, Left}
    catch
        error:badarg -> {closed, Left}
    end.

write_when_not_full(Port, Frame, Deadline) ->
    case py_clock:left(Deadline) of
        0 ->
            timeout;
        _ ->
            timer:sleep(2),
            case is_full_port(Port) of
                true -> write_when_not_full(Port, Frame, Deadline);
                false -> command(Port, Frame, py_clock:left(Deadline))
            end
    end.

%% @doc The same, for who has other messages to handle meanwhile. `full' if there is no room. The first
%% try is number 0.
-spec offer(held(), Tries :: non_neg_integer()) -> written | closed | full.
offer({Worker, Ref, Frame}, Tries) ->
    case write(Worker, Frame, 0) of
        timeout ->
            Pause = min(?LONGEST_PAUSE_MS, 2 bsl min(Tries, 10)),
            _ = erlang:send_after(Pause, self(), {offer, Ref, Tries + 1}),
            full;
        {Outcome, _} ->
            Outcome
    end.

%% @doc Why a worker has ended to which nothing can be written any more.
-spec end_of(#worker{}) -> py_error:reason().
end_of(Worker = #worker{pid = Pid}) ->
    Monitor = erlang:monitor(process, Pid),
    receive
        {'DOWN', Monitor, process, _, Reason} -> end_of(Worker, Reason)
    end.

%% @doc The same of one of whose end a `DOWN' message with that reason has come.
-spec end_of(#worker{}, term()) -> py_error:reason().
end_of(Worker, noproc) -> {worker_exit, py_load:status(Worker)};
end_of(_Worker, Reason) -> py_error:worker_exit(Reason).

%% @doc Whether whoever has a large frame to write waits.
-spec is_full(#worker{}) -> boolean().
is_full(#worker{port = Port}) ->
    is_full_port(Port).

is_full_port(Port) ->
    case erlang:port_info(Port, queue_size) of
        {queue_size, Size} -> Size > ?QUEUE_LIMIT;
        _ -> false
    end.

%% @doc Ends a request in Python. Unless that is done within the pool's `kill_after', the
%% worker is replaced.
-spec cancel(#worker{}, pid() | reference()) -> ok.
cancel(Worker, Request) ->
    watch(Worker, Request),
    _ = write(Worker, py_frame:cancel(py_frame:address(Request))),
    ok.

watch(#worker{kill_after = infinity}, _Address) -> ok;
watch(#worker{pid = Pid, kill_after = Ms}, Address) -> gen_server:cast(Pid, {watch, Address, Ms}).

%% @doc Ends a worker whose Python process is stuck or breaks the protocol. The
%% pool's manager starts another.
-spec replace(pid(), term()) -> ok.
replace(Pid, Reason) ->
    gen_server:cast(Pid, {replace, Reason}).
