%% @doc The reasons of errors.
-module(py_error).

-export([format_error/1, reason/1, worker_exit/1]).
-export_type([reason/0, status/0, ended/0]).

-type status() :: non_neg_integer() | {signal, pos_integer()} | ended() | term().
%% An exit code, or the signal that ended the Python process. Another term
%% if the node ended the worker or found it gone.

-type ended() ::
    stopped
    | starting
    | kill_after
    | unresponsive
    | bad_frame
    | {failed, Sentence :: binary()}
    | atom_limit
    | exit_unknown
    | killed.
%% What these mean is in docs/failure.md, as it is of the reasons.

-type reason() ::
    {Class :: atom() | binary(), Message :: binary()}
    | {Class :: atom() | binary(), Message :: binary(), Traceback :: binary()}
    | cancelled
    | timeout
    | overloaded
    | draining
    | not_allowed
    | atom_limit
    | {worker_exit, status()}
    | {stream_exit, term()}
    | {no_worker, Why :: term()}
    | system_limit
    | closed
    | {no_pool, term()}
    | {busy, pos_integer()}
    | {not_started, erlang_python}
    | {already_started, pid()}
    | {nodedown, node()}
    | {not_supported, node()}
    | {python_not_found, string()}
    | {cannot_start, binary()}
    | {start_timeout, timeout()}.

%% @private
%% @doc A reason as Python sends it, its class made an atom if the node knows
%% it. Names that it does not know stay binaries: what Python code calls its
%% exceptions must not fill the atom table.
-spec reason(term()) -> reason().
reason({Class, Message}) when is_binary(Class) -> {class(Class), Message};
reason({Class, Message, Traceback}) when is_binary(Class) -> {class(Class), Message, Traceback};
reason(Reason) -> Reason.

class(Name) ->
    try
        binary_to_existing_atom(Name)
    catch
        error:_ -> Name
    end.

%% @private
%% @doc The reason that callers and owners get when a worker process ended with
%% `Reason'.
-spec worker_exit(term()) -> {worker_exit, status()}.
worker_exit({shutdown, {worker_exit, Status}}) -> {worker_exit, Status};
worker_exit({shutdown, Reason}) -> {worker_exit, Reason};
worker_exit(shutdown) -> {worker_exit, stopped};
worker_exit(normal) -> {worker_exit, stopped};
%% It had gone when it was monitored. Who has more of it than its pid asks py_port.
worker_exit(noproc) -> {worker_exit, exit_unknown};
worker_exit(Reason) -> {worker_exit, Reason}.

%% @doc A sentence for people.
-spec format_error(reason() | term()) -> string().
format_error(cancelled) ->
    "the stream was cancelled";
format_error(timeout) ->
    "nothing came within the time that was allowed";
format_error(overloaded) ->
    "the worker runs as many streams as the pool option max_streams allows";
format_error(draining) ->
    "the pool is drained and takes nothing new until py:resume/1";
format_error(not_allowed) ->
    "the pool option allow does not name this";
format_error({no_worker, Why}) ->
    "the request was not started: the pool had no worker for it within the pool option worker_wait; " ++
        format_error(Why);
format_error(system_limit) ->
    "the node has as many processes or ports as it may have (see the flags +P and +Q of erl)";
format_error(closed) ->
    "the channel takes no values any more";
format_error({busy, N}) ->
    text("~p requests still ran when the time for them was over", [N]);
format_error({not_started, App}) ->
    text("the application ~tp does not run", [App]);
format_error({already_started, Pid}) ->
    text("there is a pool of that name already, with the manager ~p", [Pid]);
format_error(atom_limit) ->
    "Python code has sent more names that the node did not know than may become atoms; send them as str";
format_error({worker_exit, atom_limit}) ->
    "the worker was replaced: " ++ format_error(atom_limit);
format_error({worker_exit, {signal, Signal}}) ->
    text("the Python process was ended by signal ~p", [Signal]);
format_error({worker_exit, Code}) when is_integer(Code) ->
    text("the Python process exited with code ~p", [Code]);
format_error({no_pool, Name}) ->
    text("there is no pool named ~tp; start it with py:start_pool/2", [Name]);
format_error({nodedown, Node}) ->
    text("the node ~ts is not connected, or was not for a moment; what it ran for this node may have run", [Node]);
format_error({not_supported, Node}) ->
    text("the node ~ts has no release of erlang_python that this node can talk to", [Node]);
format_error({python_not_found, Name}) ->
    text(
        "no Python interpreter ~ts was found; install CPython 3.10 or newer, or name one "
        "by the pool option python or venv, the application's python, or ERLANG_PYTHON",
        [Name]
    );
format_error({cannot_start, Why}) ->
    text("the Python program cannot start: ~ts", [utf8(Why)]);
format_error({start_timeout, Ms}) ->
    text(
        "the Python program was not ready after ~p ms; raise the pool option start_timeout, or see "
        "what it does before it is ready: preload, code of py:exec, a site hook",
        [Ms]
    );
format_error({worker_exit, starting}) ->
    "no worker of the pool is ready yet";
format_error({worker_exit, stopped}) ->
    "the pool was stopped, or the worker was recycled";
format_error({worker_exit, exit_unknown}) ->
    "the Python process is gone; its exit status is not known";
format_error({worker_exit, unresponsive}) ->
    "the worker was replaced: its Python process did not answer, and was stopped or had the time of the pool option deaf_after";
format_error({worker_exit, killed}) ->
    "the node's own process of the worker was killed";
format_error({worker_exit, {failed, Why}}) ->
    text("the worker was replaced: ~ts", [utf8(Why)]);
format_error({worker_exit, bad_frame}) ->
    "the Python process sent what is no frame";
format_error({worker_exit, kill_after}) ->
    "the worker was replaced: what was cancelled in it did not end within the pool option kill_after";
format_error({stream_exit, killed}) ->
    "the node's own process of the stream was killed, as by a limit of the heap";
format_error({stream_exit, Why}) ->
    text("the node's own process of the stream ended: ~tp", [Why]);
format_error({worker_exit, Why}) ->
    text("the worker ended: ~tp", [Why]);
format_error({Class, Message}) when is_binary(Message) ->
    text("~ts: ~ts", [Class, utf8(Message)]);
format_error({Class, Message, Traceback}) when is_binary(Message), is_binary(Traceback) ->
    text("~ts: ~ts~n~ts", [Class, utf8(Message), utf8(Traceback)]);
format_error(Reason) ->
    text("~tp", [Reason]).

%% What a hostile program sends need not be UTF-8.
utf8(Binary) ->
    case unicode:characters_to_binary(Binary) of
        Utf8 when is_binary(Utf8) -> Utf8;
        _ -> unicode:characters_to_binary(Binary, latin1)
    end.

text(Format, Args) ->
    lists:flatten(io_lib:format(Format, Args)).
